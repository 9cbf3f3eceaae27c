"""What a training run tells its reader, one typed event at a time."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Preflight:
    """Before the first step: what is about to happen, and what it should cost."""

    run: str
    device: str
    precision: str
    why_precision: str
    compiled: bool
    why_compiled: str
    parameters: int
    train_tokens: int
    validation_tokens: int
    tokens_per_step: int
    max_steps: int
    done_steps: int
    """Steps that an earlier, interrupted part of this run has done."""
    eval_interval: int
    first_loss: float
    """Loss of the first micro-batch, before any of the steps to come, nats per token."""
    log_vocab_size: float
    """What a model that knows nothing must score: ln(vocab_size), nats per token."""
    seconds_per_step: float
    """Measured on passes and steps of the optimizer that were thrown away."""
    evaluation_seconds: float
    """What one evaluation should take, from the same measurement."""
    memory_bytes: int
    peak_flops: float
    """Measured matrix-product speed that MFU is relative to, in FLOP/s."""

    @property
    def tokens_per_parameter(self) -> float:
        """Tokens seen per parameter; about 20 is compute-optimal (Hoffmann et al., 2022)."""
        return self.max_steps * self.tokens_per_step / self.parameters

    @property
    def epochs(self) -> float:
        return self.max_steps * self.tokens_per_step / self.train_tokens

    @property
    def expected_seconds(self) -> float:
        """Of what is left: steps and evaluations; samples and saving come on top."""
        steps = self.max_steps - self.done_steps
        # The last step is evaluated wherever it falls.
        evaluations = -(-self.max_steps // self.eval_interval)
        evaluations -= self.done_steps // self.eval_interval
        return steps * self.seconds_per_step + evaluations * self.evaluation_seconds


@dataclass(frozen=True)
class Step:
    """One optimizer step."""

    step: int
    loss: float
    """Mean over every token of every micro-batch of the step, nats per token."""
    bits_per_byte: float
    learning_rate: float
    grad_norm: float
    """Before clipping."""
    tokens: int
    """Tokens trained on so far, in all parts of the run."""
    tokens_per_second: float
    """Of this step, all micro-batches counted; evaluations and saving left out."""
    mfu: float
    """Model FLOPs utilisation: share of the machine's measured matrix-product speed."""
    seconds: float
    """Training time so far, in all parts of the run."""


@dataclass(frozen=True)
class Evaluation:
    """The loss on the whole validation split."""

    step: int
    bits_per_byte: float
    nats_per_token: float
    nats_per_char: float
    is_best: bool
    seconds: float


@dataclass(frozen=True)
class MaskedStep:
    """One optimizer step of `objective: mlm`."""

    step: int
    loss: float
    """Mean over the masked tokens of the step, nats; no bits per byte follow from it."""
    learning_rate: float
    grad_norm: float
    seconds: float
    """Training time so far, in all parts of the run."""


@dataclass(frozen=True)
class MaskedEvaluation:
    """Masked tokens of the whole validation split, the same at every evaluation."""

    step: int
    nats_per_masked_token: float
    accuracy: float
    masked_tokens: int
    is_best: bool
    seconds: float


@dataclass(frozen=True)
class Sample:
    """A completion written by the model as it is now."""

    step: int
    prompt: str
    text: str


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint is complete on the disk."""

    step: int
    path: str


@dataclass(frozen=True)
class Stopped:
    """Somebody asked the run to stop; it is saved and can go on from here."""

    step: int
    why: str


@dataclass(frozen=True)
class Finished:
    """The run has done all its steps."""

    step: int
    seconds: float
    best: Evaluation | MaskedEvaluation


Event = (
    Preflight | Step | Evaluation | MaskedStep | MaskedEvaluation
    | Sample | Checkpoint | Stopped | Finished
)  # fmt: skip
