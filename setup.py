from setuptools import find_packages, setup

# What runs is pinned, with hashes, in the lock files; these are the bounds within which the code is right.
AUDIO = [
    "numpy>=1.26,<2",
    "scipy>=1.11",
    "librosa>=0.11,<0.12",
    "soundfile>=0.13",
    "soxr>=0.5",
    "indexed-gzip>=1.9",
    "zstandard>=0.22",
    "av>=14",
    "tqdm>=4.66",
]
PAGES = ["jinja2>=3.1", "matplotlib>=3.8", "pillow>=10"]
CLOUD = ["google-cloud-storage>=2.19,<3", "google-crc32c>=1.5", "protobuf>=4.25,<5"]

setup(
    name="gtzan-cvae",
    version="0.1.0",
    description="Trains convolutional variational autoencoders on music and makes music with them",
    license="Apache-2.0",
    python_requires=">=3.11,<3.12",
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
    install_requires=[*AUDIO, *CLOUD, *PAGES, "apache-beam[gcp]>=2.72,<2.73"],
    extras_require={
        "trainer": [
            "tensorflow>=2.15.1,<2.16",
            "tensorflow-addons>=0.23,<0.24",
            "tensorflow-io>=0.36,<0.37",
            "pyyaml>=6",
            "scikit-learn>=1.3",
            "setuptools<81",  # TensorBoard 2.15 imports pkg_resources
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
