"""transformers' Trainer on our blocks: same weights to begin with, same batches, same losses.

Here is the Trainer itself: its arguments, batches, optimizer, schedule and evaluation. How its run
is told as events, and where it is kept, is in trainer.py. (With dropout the two engines draw
different masks, so it is without that they are equal.) What Trainer (5.23) does that its users may
not expect, and what is done about it:

- GPT-2 has no loss type in the registry, so with plain `labels` Trainer counts L of them where
  L - 1 are predicted: loss and gradients shrink by (L - 1) / L. Our blocks bring every place's
  target along; as `shift_labels` both the count and the loss take them as they are.
- It resumes by reading again what was read, and gets a second pass wrong. Here a batch is a
  function of its number (sampler.py), so step 10,000 is as near as step 10; a stream's place is in
  the checkpoint, and only the file it was in is read again up to there (streaming.py).
- Its evaluation averages the means of batches, so padding would weigh; ours sums.
- It replaces a loss that is not a number by an earlier one: switched off, and an error.
- training_args.bin would hold a hub token in clear: none is ever given to it.
- Its TensorBoard callback has tags of its own and writes a step again after a resume; RunLogger
  reports instead, hence `report_to="none"`.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch.distributed.tensor import DTensor
from transformers import Trainer, TrainingArguments

from wikigpt.blocks.prepare import Prepared
from wikigpt.config import Config
from wikigpt.files import OUT_OF_SPACE
from wikigpt.model.twin import Twin
from wikigpt.training import ranks
from wikigpt.training.checkpoint import disk_full
from wikigpt.training.hardware import Hardware
from wikigpt.training.micro_batches import micro_batches
from wikigpt.training.optim import learning_rate_at, make_optimizer
from wikigpt.training.trainer_checkpoint import MARK


def training_arguments(config: Config, hardware: Hardware, folder: Path) -> TrainingArguments:
    """Our config in Trainer's words."""
    settings = config.training
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=settings.max_steps,
        per_device_train_batch_size=settings.micro_batch_size,
        gradient_accumulation_steps=settings.grad_accumulation_steps // ranks.world_size(),
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        adam_beta1=settings.beta1,
        adam_beta2=settings.beta2,
        max_grad_norm=settings.grad_clip,
        lr_scheduler_type="cosine",
        warmup_steps=settings.warmup_steps,
        eval_strategy="steps",
        eval_steps=settings.eval_interval,
        save_strategy="steps",
        save_steps=settings.eval_interval,
        save_total_limit=2,  # the one before stays until the new one has its mark
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to="none",
        ignore_data_skip=True,
        dataloader_num_workers=settings.data_workers,
        remove_unused_columns=False,  # `shift_labels` would be taken for one
        bf16=hardware.precision == "bf16",
        ddp_find_unused_parameters=False,
        use_cpu=hardware.device.type == "cpu",
        fsdp=settings.fsdp or None,
        seed=config.seed % 2**32,  # numpy's generator takes no more
        disable_tqdm=True,
    )
    # One process is one device: with several in sight, Trainer would multiply the batch by them.
    if arguments.device.type == "cuda":
        arguments._n_gpu = 1
    return arguments


def gathered(twin: Twin) -> Twin:
    """The model itself, or a copy with all of its weights if FSDP has shared them out; then every
    process must ask."""
    if not any(isinstance(weight, DTensor) for weight in twin.parameters()):
        return twin
    with torch.random.fork_rng(devices=[]):
        whole = type(twin)(twin.config)
    whole.load_state_dict({k: w.full_tensor().cpu() for k, w in twin.state_dict().items()})
    return whole


def _is_full(error: Exception) -> bool:
    """Whether a write failed for want of space, as Python, safetensors (Rust) or torch says it."""
    said = str(error)
    signs = [f"os error {number})" for number in OUT_OF_SPACE]
    signs += ["inline_container", "PytorchStreamWriter"]
    return getattr(error, "errno", None) in OUT_OF_SPACE or any(sign in said for sign in signs)


class GPTTrainer(Trainer):
    """Trainer with our batches, our optimizer and schedule, and our evaluation."""

    def __init__(
        self, config: Config, data: Prepared, start: int, place: Any,
        evaluation: Callable[[int], dict[str, float]], **settings: Any,
    ) -> None:  # fmt: skip
        """
        Args:
            start: the step to begin with.
            place: of the stream of blocks at that step, if they are streamed.
            evaluation: is given the step; returns what Trainer calls metrics.
        """
        self.config, self.data = config, data
        self.start, self.place, self.evaluation = start, place, evaluation
        self.tokens_of_step = 0
        super().__init__(train_dataset=data.train, eval_dataset=data.validation, **settings)

    def get_train_dataloader(self) -> torch.utils.data.DataLoader:
        return micro_batches(
            self.config, self.data, self.start, self.place,
            rank=self.args.process_index, world_size=self.args.world_size,
        )  # fmt: skip

    def get_batch_samples(self, epoch_iterator: Iterator, num_batches: int, device: torch.device):
        batches, n_targets = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.tokens_of_step = int(n_targets)
        for batch in batches:
            self.place = batch.pop("place", None)
        return batches, n_targets

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            self.optimizer = make_optimizer(model or self.model, self.config.training)
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        settings = self.config.training
        if self.lr_scheduler is None:
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                optimizer or self.optimizer,
                lambda step: learning_rate_at(step, settings) / settings.learning_rate,
            )
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """
        Raises:
            UserError: the disk is full; the checkpoints before are still there.
        """
        try:
            super()._save_checkpoint(model, trial)
        except (OSError, RuntimeError, SafetensorError) as error:
            if not _is_full(error):
                raise
            checkpoints = Path(self.args.output_dir)
            folder = checkpoints / f"checkpoint-{self.state.global_step}"
            shutil.rmtree(folder, ignore_errors=True)
            raise disk_full(folder, next(checkpoints.glob(f"checkpoint-*/{MARK}"), None)) from None

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        metrics = self.evaluation(self.state.global_step)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics
