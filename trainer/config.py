"""What a run is: one frozen dataclass, its presets, its checks, and its JSON. Standard library only."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from preprocessing.errors import USAGE, CommandError

MAX_SEED = 2**31 - 1
PRECISIONS = ("float32", "bfloat16", "float16")
MODES = ("prior", "variation", "reconstruct", "interpolate", "transfer", "continue")  # of making music
FROM_CHAMPION, FROM_SCRATCH = INITIALIZATIONS = (
    "champion",
    "nothing",
)  # the weights that retraining begins with
GUIDANCE = 3.0  # how much what is asked counts: genres are heard more often, and the music is no less real
UNCONDITIONAL_GUIDANCE = (
    4.0  # of the genre that is drawn where nothing is asked: less, and clips are too much alike
)


def _setting(default: Any, reason: str, choices: tuple[str, ...] = ()) -> Any:
    return dataclasses.field(default=default, metadata={"help": reason, "choices": choices})


@dataclass(frozen=True)
class Config:
    """A run's settings; the defaults are the preset `wave`. Each has its reason, which `--help` prints."""

    preset: str = _setting("wave", "the model: tiny, wave or wave-large, or reference, the notebook's")
    epochs: int = _setting(15, "passes over the training split; half an hour for 400 clips on two cores")
    batch_size: int = _setting(8, "crops per step, over all replicas; small, for many steps on few clips")
    crop_samples: int = _setting(
        32_768, "samples of a training example, enough for some bars; 0: whole clips"
    )
    crops_per_clip: int = _setting(8, "crops of each clip in an epoch, at random places")
    learning_rate: float = _setting(1e-3, "largest step size of Adam")
    final_learning_rate: float = _setting(1e-5, "step size at the end, reached along half a cosine")
    warmup_steps: int = _setting(100, "steps over which the step size grows from 0")
    gradient_clip_norm: float = _setting(1.0, "largest global norm of a step's gradient; 0: no limit")
    beta: float = _setting(0.5, "weight of the KL terms after their warm-up; 1 is the ELBO, less is clearer")
    beta_warmup_epochs: float = _setting(1.5, "epochs over which beta grows from 0, lest latents collapse")
    free_bits: float = _setting(0.05, "nats per latent value that the KL terms leave alone")
    spectral_envelope_weight: float = _setting(
        0.1, "weight of the likelihood of the envelope alone, which keeps it the scale of what fills it"
    )
    spectral_weight: float = _setting(
        0.0, "nats per sample and unit of multi-resolution STFT distance; 0: the likelihood does without"
    )
    condition_dropout: float = _setting(0.25, "part of the crops of which a genre or attribute is left open")
    gain_db: float = _setting(3.0, "crops are played up to so much louder or softer, and told so")
    latent_dim: int = _setting(32, "values of a clip's global latent")
    sequence_latent_dim: int = _setting(11, "values of a step's local latent")
    sparse_coefficients: int = _setting(
        10, "coefficients kept of a step, two values each: with local_dim 8.2 samples a value"
    )
    residual_noise_scale: float = _setting(
        0.15, "noise between the peaks of a known clip, in sizes of the smallest: 0 for SNR, more for spectra"
    )
    hop_samples: int = _setting(128, "samples between MDCT frames: 43 ms at 3,000 Hz resolve beats and tones")
    frames_per_step: int = _setting(2, "frames that share a local latent: 12 steps a second")
    channels: int = _setting(192, "width of encoder and decoder")
    prior_units: int = _setting(256, "width of the local prior's GRUs")
    prior_mixtures: int = _setting(8, "Gaussians of the local prior's mixture")
    coefficient_model_units: int = _setting(
        48, "width of the network that predicts coefficients from those before"
    )
    seed: int = _setting(0, "of weights, data order, noise and the fixed latents")
    sample_clips: int = _setting(4, "test clips and latents that are rendered each epoch")
    precision: str = _setting(
        "float32",
        "what convolutions and dense layers compute in; bfloat16 for tensor cores, float16 for older ones",
        PRECISIONS,
    )
    jit: bool = _setting(False, "compile the gradient with XLA: a minute once, quicker steps on a GPU")
    accumulate_steps: int = _setting(
        1, "parts that a batch is computed in, one after the other, where it does not fit into memory at once"
    )
    ema_decay: float = _setting(
        0.0, "of the moving average of the weights that is evaluated and makes the music; 0: the weights"
    )
    input_shards: int = _setting(
        1, "parts that the training shards are dealt into, each with its rows of a batch; a worker reads some"
    )
    cache_mb: int = _setting(
        2_048, "memory for decoded clips; a dataset that needs more is read from disk in each epoch"
    )
    checkpoints_to_keep: int = _setting(3, "newest checkpoints that stay")
    checkpoint_secs: float = _setting(300.0, "longest time between checkpoints; each epoch has one too")
    max_rollbacks: int = _setting(
        3, "times that a run whose loss explodes or is no number goes back, with a lower learning rate"
    )

    def __post_init__(self) -> None:
        for name, low in _AT_LEAST.items():
            value = getattr(self, name)
            if not low <= value < float("inf"):
                raise CommandError(f"{flag(name)} must be at least {low}, not {value}", USAGE)
        if self.seed > MAX_SEED:
            raise CommandError(f"--seed must be at most {MAX_SEED}, not {self.seed}", USAGE)
        if self.condition_dropout > 1:
            raise CommandError(f"--condition-dropout must be at most 1, not {self.condition_dropout}", USAGE)
        if not 0 <= self.ema_decay < 1:
            raise CommandError(f"--ema-decay must be at least 0 and below 1, not {self.ema_decay}", USAGE)
        for field in dataclasses.fields(self):
            choices = field.metadata["choices"]
            if choices and getattr(self, field.name) not in choices:
                known = ", ".join(choices)
                raise CommandError(
                    f"{flag(field.name)} must be one of {known}, not {getattr(self, field.name)}", USAGE
                )
        if self.batch_size % self.input_shards:
            raise CommandError(
                f"--batch-size {self.batch_size} cannot be divided among --input-shards {self.input_shards}",
                USAGE,
            )
        if not 0 < self.learning_rate < float("inf"):
            raise CommandError(f"--learning-rate must be above 0, not {self.learning_rate}", USAGE)
        step = self.frames_per_step * self.hop_samples
        if self.sparse_coefficients > step:
            raise CommandError(
                f"--sparse-coefficients {self.sparse_coefficients}, but a step has {step} coefficients", USAGE
            )
        if 0 < self.crop_samples < step:
            raise CommandError(f"--crop-samples {self.crop_samples} is less than a step of {step}", USAGE)

    def learning_rate_at(self, progress: float, step: int) -> float:
        """Adam's step size after a part `progress` of all steps: warm-up, then half a cosine down.

        Loshchilov & Hutter 2017, "SGDR", equation 5, without restarts.
        """
        fall = 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
        rate = self.final_learning_rate + (self.learning_rate - self.final_learning_rate) * fall
        return rate * min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else rate

    def beta_at(self, epoch: float) -> float:
        """The KL term's weight after `epoch` epochs: linear warm-up (Bowman et al. 2016, section 3.1)."""
        return self.beta * min(1.0, epoch / self.beta_warmup_epochs) if self.beta_warmup_epochs else self.beta


_AT_LEAST = {
    **dict.fromkeys(
        [
            "epochs", "batch_size", "crops_per_clip", "latent_dim", "sequence_latent_dim", "sparse_coefficients", "hop_samples",
            "frames_per_step", "channels", "prior_units", "prior_mixtures", "coefficient_model_units", "sample_clips",
            "checkpoints_to_keep", "accumulate_steps", "input_shards",
        ],
        1,
    ),
    **dict.fromkeys(
        [
            "crop_samples", "final_learning_rate", "warmup_steps", "gradient_clip_norm", "beta",
            "beta_warmup_epochs", "free_bits", "spectral_envelope_weight", "spectral_weight", "condition_dropout",
            "gain_db", "residual_noise_scale", "seed", "checkpoint_secs", "max_rollbacks", "cache_mb",
        ],
        0,
    ),
}  # fmt: skip


def flag(name: str) -> str:
    """The command-line flag of a field."""
    return "--" + name.replace("_", "-")
