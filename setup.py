from setuptools import find_packages, setup

# What runs is pinned, with hashes, in the lock files; these are the bounds within which the code is right. The version
# of Python selects the stack: TensorFlow 2.15 has no wheels for 3.12 (docs/next-stack.md).
FIRST, NEXT = "python_version < '3.12'", "python_version >= '3.12'"
AUDIO = [
    f"numpy>=1.26,<2; {FIRST}",
    f"numpy>=2,<3; {NEXT}",
    "scipy>=1.11",
    f"librosa>=0.11,<0.12; {FIRST}",
    f"librosa>=1.0,<2; {NEXT}",
    "soundfile>=0.13",
    "soxr>=0.5",
    "indexed-gzip>=1.9",
    "zstandard>=0.22",
    "av>=14",
    "tqdm>=4.66",
]
PAGES = ["jinja2>=3.1", "matplotlib>=3.8", "pillow>=10"]
CLOUD = [
    f"google-cloud-storage>=2.19,<3; {FIRST}",
    f"google-cloud-storage>=3,<4; {NEXT}",
    "google-crc32c>=1.5",
    f"protobuf>=4.25,<5; {FIRST}",
    f"protobuf>=6,<7; {NEXT}",
]
BEAM = [f"apache-beam[gcp]>=2.72,<2.73; {FIRST}", f"apache-beam[gcp]>=2.77,<2.78; {NEXT}"]

setup(
    name="gtzan-cvae",
    version="0.1.0",
    description="Trains convolutional variational autoencoders on music and makes music with them",
    license="Apache-2.0",
    python_requires=">=3.11,<3.13",
    packages=find_packages(include=["preprocessing*", "trainer*"]),
    package_data={
        "preprocessing.storage": ["emulator.json"],
        "preprocessing.html": ["templates/*"],
        "preprocessing.validation": ["templates/*"],
        "trainer.reporting": ["templates/*"],
        "trainer.registry": ["templates/*"],
        "trainer.studio": ["templates/*"],
    },
    # The trainer's weight comes with its extra: workers of a Beam job do without.
    install_requires=[*AUDIO, *CLOUD, *PAGES, *BEAM],
    extras_require={
        "trainer": [
            f"tensorflow>=2.15.1,<2.16; {FIRST}",
            f"tensorflow-addons>=0.23,<0.24; {FIRST}",
            f"tensorflow-io>=0.36,<0.37; {FIRST}",
            f"setuptools<81; {FIRST}",  # TensorBoard 2.15 imports pkg_resources
            f"tensorflow>=2.21,<2.22; {NEXT}",
            f"tf-keras>=2.21,<2.22; {NEXT}",
            f"tensorboard>=2.20; {NEXT}",  # TensorFlow 2.15 depends on it
            f"tensorflow-io>=0.37.1,<0.38; {NEXT}",
            "pyyaml>=6",
            "scikit-learn>=1.3",
        ],
        "studio": ["gradio>=6,<7"],
        "mlflow": ["mlflow-skinny>=2.20"],
    },
    entry_points={
        "console_scripts": [
            "gtzan-preprocess = preprocessing.__main__:program",
            "gtzan-demo-corpus = preprocessing.synthetic.__main__:main",
            "gtzan-train = trainer.__main__:main",
        ]
    },
)
