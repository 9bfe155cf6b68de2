"""Settings of a training run: one frozen dataclass whose fields carry their description, limits and role.

Standard library only: `--help` and the checks of a command line need no TensorFlow.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from preprocessing.errors import UsageError
from trainer.setting import Setting, convert_fields, described_field

MAX_SEED = 2**31 - 1  # the largest 32-bit integer
MAX_TEMPERATURE, MAX_GUIDANCE = 2.0, 10.0  # of generation: beyond them, there is only noise
# Which checkpoint of a run is used: that of the best epoch (`trainer.runs.metrics.best_epoch`), or the newest.
CHECKPOINT_CHOICES = BEST, NEWEST = "best", "newest"
MODES = ("prior", "variation", "reconstruct", "interpolate", "transfer", "continue")  # of generation
# Scales of classifier-free guidance. At 3, a classifier recognizes genres more often than at 1, and the Fréchet
# distance is no larger.
GUIDANCE = 3.0
MAX_ATTRIBUTE_GUIDANCE = (
    2.0  # beyond it, clips are noisier and farther from what is asked (docs/experiments.md)
)
UNCONDITIONAL_GUIDANCE = 1.0  # of the conditions of training clips, which need no exaggeration


@dataclass(frozen=True)
class Config:
    """Settings of a run; the defaults are the preset `wave`.

    Raises:
        CommandError: A value is out of range, or two values contradict each other (exit code 2).
    """

    preset: str = described_field(
        "wave", "model and defaults: tiny, wave, wave-22khz, wave-large, or reference, the notebook's"
    )

    # Training.
    epochs: int = described_field(
        15,
        "passes over the training split; 15 take 45 minutes for 400 clips on two cores",
        minimum=1,
        extendable=True,
    )
    generation_share: float = described_field(
        0.15,
        "share of the epochs, the last ones, in which only what makes new clips learns, from an encoder that no longer "
        "changes: the priors, from whole crops, and the magnitude decoder",
        minimum=0,
        below=1,
    )
    batch_size: int = described_field(
        8,
        "crops per training step, over all replicas; small by default, for many steps on few clips",
        minimum=1,
    )
    crop_samples: int = described_field(
        131_072,
        "longest crop in samples: 44 s at 3,000 Hz, so that clips are whole, as beats are learned over many bars; 0: "
        "whole clips, one crop of each",
        minimum=0,
    )
    decoded_samples: int = described_field(
        16_384,
        "samples of each crop, at a random place, that the decoders see in a training step, 5.5 s at 3,000 Hz; 0: all",
        minimum=0,
    )
    crops_per_clip: int = described_field(8, "random crops of each clip per epoch", minimum=1)
    learning_rate: float = described_field(
        2e-3,
        "peak learning rate of Adam; a quarter of it in the last epochs, see `generation_share`",
        above=0,
    )
    final_learning_rate: float = described_field(
        1e-5, "learning rate at the end of the cosine decay", minimum=0
    )
    warmup_steps: int = described_field(
        100, "training steps of linear learning-rate warm-up from 0", minimum=0
    )
    gradient_clip_norm: float = described_field(
        1.0, "global gradient norm to clip at; 0: no clipping", minimum=0
    )

    # Objective.
    beta: float = described_field(
        0.5,
        "weight of the KL terms after their warm-up; 1 is the ELBO, lower values favor reconstruction",
        minimum=0,
    )
    beta_warmup_epochs: float = described_field(
        1.5, "epochs over which beta grows linearly from 0, against posterior collapse", minimum=0
    )
    free_bits: float = described_field(
        0.05,
        "nats per latent value that a KL term may have at no cost, against posterior collapse",
        minimum=0,
    )
    spectral_envelope_weight: float = described_field(
        0.1,
        "weight of the coefficients' likelihood under the spectral envelope alone, which keeps it at their scale",
        minimum=0,
    )
    magnitude_weight: float = described_field(
        0.25,
        "weight of the likelihood of STFT magnitudes, from which new clips are synthesized",
        minimum=0,
    )
    adversarial_weight: float = described_field(
        0.0,
        "weight of a discriminator of magnitudes in the last epochs, beside 0.3 of their likelihood; 0: none",
        minimum=0,
        shapes_weights=True,
    )
    level_weight: float = described_field(
        0.0,
        "weight of the error in the levels of spectrogram patches in the last epochs: 1 for a small corpus and few "
        "epochs, where clips otherwise alternate between too loud and too quiet; 0 for hundreds of clips",
        minimum=0,
    )
    condition_dropout: float = described_field(
        0.25,
        "probability that a crop's genre, or an attribute, is dropped, so that the model also works without it",
        minimum=0,
        maximum=1,
    )
    gain_db: float = described_field(
        3.0,
        "largest random gain of a crop, up or down, in dB; the loudness condition changes with it",
        minimum=0,
    )

    # Model.
    latent_dim: int = described_field(32, "values of a clip's global latent", minimum=1, shapes_weights=True)
    sequence_latent_dim: int = described_field(
        11, "values of a step's sequence latent", minimum=1, shapes_weights=True
    )
    sparse_coefficients: int = described_field(
        10,
        "largest MDCT coefficients kept per step, each counted as two values (position and size): 10, with "
        "11 sequence latent values, make 8.2 samples per value",
        minimum=1,
    )
    global_noise_scale: float = described_field(
        1.3, "noise scale of new clips' global latents: at 1, they differ less than music does", minimum=0
    )
    magnitude_noise_scale: float = described_field(
        0.8, "noise scale of new clips' magnitudes: at 0, the strongest partials are too weak", minimum=0
    )
    past_dropout: float = described_field(
        0.0,
        "probability that the prior, in the second stage, is not given a step to predict later ones from, and so "
        "relies on beat and condition: its samples are less exact than the steps that it learns from",
        minimum=0,
        below=1,
    )
    phrase_beats: int = described_field(
        0, "beats of a phrase, which new clips with a tempo play four times; 0: no phrases", minimum=0
    )
    beat_emphasis: float = described_field(
        2.0,
        "strength of the beat that the prior of a new clip is given, relative to the requested clarity, because "
        "sampled clips lose some of it; more for small corpora with clear beats",
        minimum=0,
    )
    residual_noise_scale: float = described_field(
        0.15,
        "largest standard deviation of the noise in coefficients that are not kept, relative to the "
        "smallest kept one; 0 favors SNR, more favors spectra",
        minimum=0,
    )
    hop_samples: int = described_field(
        128,
        "samples between MDCT frames, and bins of a frame: 43 ms at 3,000 Hz resolve beats and partials",
        minimum=1,
        shapes_weights=True,
    )
    frames_per_step: int = described_field(
        2, "MDCT frames per sequence latent: 12 steps per second", minimum=1, shapes_weights=True
    )
    channels: int = described_field(192, "channels of encoder and decoder", minimum=1, shapes_weights=True)
    prior_units: int = described_field(
        256, "units of the sequence prior's GRUs", minimum=1, shapes_weights=True
    )
    prior_mixtures: int = described_field(
        8, "Gaussian components of the sequence prior's mixture", minimum=1, shapes_weights=True
    )
    coefficient_model_units: int = described_field(
        48,
        "hidden units of the coefficient model, which predicts MDCT coefficients from past frames",
        minimum=1,
        shapes_weights=True,
    )

    # Execution.
    seed: int = described_field(
        0,
        "random seed of initial weights, data order, noise and the latents sampled after each epoch",
        minimum=0,
        maximum=MAX_SEED,
    )
    sample_clips: int = described_field(
        4, "test clips reconstructed, and prior samples decoded, after each epoch", minimum=1
    )
    precision: str = described_field(
        "float32",
        "compute type of convolutions and dense layers; bfloat16 for tensor cores, float16 for older GPUs",
        choices=("float32", "bfloat16", "float16"),
    )
    jit: bool = described_field(
        False, "compile the gradient with XLA: takes a minute once, then GPU steps are faster"
    )
    accumulate_steps: int = described_field(
        1,
        "parts of a batch whose gradients are computed one after the other, for batches that exceed the memory",
        minimum=1,
    )
    ema_decay: float = described_field(
        0.0,
        "decay of the moving average of the weights, which then evaluates and generates; 0: no average",
        minimum=0,
        below=1,
    )
    input_shards: int = described_field(
        1,
        "groups of training shards, each of which supplies its own rows of every batch; each worker reads "
        "some of the groups",
        minimum=1,
    )
    clip_cache_gb: float = described_field(
        4.0,
        "disk space in GB for decoded clips; if they need more, they are read from their shards in each epoch",
        minimum=0,
        operational=True,
    )
    cache_disk_gb: float = described_field(
        8.0,
        "disk space in GB for the shards of a dataset on gs://, which are fetched ahead of training; those that are "
        "needed last make room",
        above=0,
        operational=True,
    )
    checkpoints_to_keep: int = described_field(3, "newest checkpoints to keep", minimum=1, operational=True)
    checkpoint_secs: float = described_field(
        300.0,
        "longest time between checkpoints in seconds; every epoch also ends with one",
        minimum=0,
        operational=True,
    )
    max_rollbacks: int = described_field(
        3,
        "times that a run whose loss diverges returns to a checkpoint, with a lower learning rate",
        minimum=0,
        operational=True,
    )

    def __post_init__(self) -> None:
        convert_fields(self)
        if self.batch_size % self.input_shards:
            raise UsageError(
                f"`batch_size` {self.batch_size} cannot be divided among `input_shards` {self.input_shards}",
            )
        if self.hop_samples % 2:
            raise UsageError(
                f"`hop_samples` must be even, not {self.hop_samples}: magnitudes are decoded in groups of four"
            )
        step_samples = self.frames_per_step * self.hop_samples
        if self.sparse_coefficients > step_samples:
            raise UsageError(
                f"`sparse_coefficients` {self.sparse_coefficients} exceeds the {step_samples} coefficients "
                "of a step (`frames_per_step` times `hop_samples`)",
            )
        if 0 < self.crop_samples < step_samples:
            raise UsageError(
                f"`crop_samples` {self.crop_samples} is shorter than a step of {step_samples} samples "
                "(`frames_per_step` times `hop_samples`)",
            )

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Names of all fields."""
        return tuple(field.name for field in dataclasses.fields(cls))

    @classmethod
    def setting(cls, name: str) -> Setting:
        """Return the description, limits and role of a field."""
        return cls.__dataclass_fields__[name].metadata["setting"]

    @classmethod
    def weight_shape_fields(cls) -> tuple[str, ...]:
        """Names of the fields on which the shapes of a model's variables depend."""
        return tuple(name for name in cls.names() if cls.setting(name).shapes_weights)

    @classmethod
    def operational_fields(cls) -> tuple[str, ...]:
        """Names of the fields on which no bit of a result depends."""
        return tuple(name for name in cls.names() if cls.setting(name).operational)
