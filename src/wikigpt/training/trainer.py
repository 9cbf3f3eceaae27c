"""`engine: trainer`: a run of transformers' Trainer, told as the own loop tells its.

Reached through the same `train(config)`, with the same events, the same tags and the same run
folder as the loop in loop.py; what Trainer computes with is in gpt_trainer.py. Trainer calls back
after every step, log and save, and each of these calls becomes an event (lockstep.py makes a
generator of them). Its checkpoints are its own, with a mark on those that are whole
(trainer_checkpoint.py); `best` is one of ours, so that everything that reads a run reads this one.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from transformers import (
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from wikigpt.blocks.prepare import Prepared
from wikigpt.config import Config, GPTConfig, relative
from wikigpt.errors import UserError
from wikigpt.evaluation.bits_per_byte import bits_per_byte
from wikigpt.model.gpt import GPT
from wikigpt.model.twin import TwinAsGPT, from_transformers, to_transformers
from wikigpt.training import checkpoint, events, ranks
from wikigpt.training.export import export_run, no_bars
from wikigpt.training.gpt_trainer import GPTTrainer, gathered, training_arguments
from wikigpt.training.hardware import detect, pick_device, synchronize
from wikigpt.training.lockstep import in_lockstep
from wikigpt.training.logging import NoLogger, RunLogger
from wikigpt.training.preflight import preflight
from wikigpt.training.progress import (
    Progress,
    diverged,
    evaluate_run,
    hyperparameters,
    write_sample,
)
from wikigpt.training.run_folder import Fresh, open_run
from wikigpt.training.signals import StopRequest
from wikigpt.training.trainer_checkpoint import mark_whole, newest_whole


class Run(TrainerCallback):
    """One run from its folder to its last event; Trainer calls back at every step."""

    Best = events.Evaluation

    @classmethod
    def train(
        cls, config: Config, data: Prepared, model_config: GPTConfig, fresh: Fresh,
        stop: StopRequest, say: Callable[[str], None],
    ) -> Iterator[events.Event]:  # fmt: skip
        """What `train` yields for `engine: trainer`, with the data there and the run locked."""

        def work(tell: Callable[[events.Event], None]) -> None:
            ranks.take_device(pick_device(config.training.device))  # in this thread too
            cls(config, data, model_config, fresh, say, tell, stop).go()

        yield from in_lockstep(work, lambda why: setattr(stop, "reason", why))

    def __init__(
        self, config: Config, data: Prepared, model_config: GPTConfig, fresh: Fresh,
        say: Callable[[str], None], tell: Callable[[events.Event], None], stop: StopRequest,
    ) -> None:  # fmt: skip
        self.config, self.data, self.say, self.tell, self.stop = config, data, say, tell, stop
        self.first, self.folder = ranks.is_first(), config.run_path
        found = ranks.first_does(
            lambda: newest_whole(open_run(config, data, fresh) / "checkpoints", say)
        )
        self.kept, state = found or (None, None)
        self.progress = Progress()
        if state and state["processes"] != ranks.world_size():
            raise UserError(
                f"The number of processes was {state['processes']} when {relative(self.kept)} was "
                f"saved with the random state of each, and is {ranks.world_size()} now; go on with "
                "as many as before."
            )
        if state:
            self.progress = Progress(**state["progress"])
            if state["progress"]["best"]:
                self.progress.best = self.Best(**state["progress"]["best"])
        # What "auto" chose in the first part of a run holds for all of it, as in loop.py.
        settings = config.training
        self.hardware = ranks.from_first(
            detect(replace(settings, precision=state["precision"]) if state else settings)
        )
        if config.training.fsdp and (self.hardware.device.type != "cuda" or ranks.world_size() < 2):
            raise UserError(
                "training.fsdp shares a model out among several GPUs: start it with torchrun where "
                "there are some, or leave fsdp out."
            )
        if state:
            self.hardware = replace(self.hardware, why="as in the first part of this run")
        torch.manual_seed(config.seed)
        self.trainer = self.make_trainer(
            model_config, self.progress.step, state and state["place"], self.evaluate,
            callbacks=[self],
            args=training_arguments(config, self.hardware, self.folder / "checkpoints"),
        )  # fmt: skip
        self.trainer.remove_callback(PrinterCallback)
        self.logger = NoLogger()
        if self.first:
            self.logger = RunLogger(self.folder, self.progress.step, hyperparameters(config))
        self.unreported: list[events.Event] = []
        self.clock = 0.0

    def make_trainer(self, model_config: GPTConfig, *where: Any, **settings: Any) -> GPTTrainer:
        ours = GPT(model_config)
        self.flops_per_token = ours.flops_per_token
        model = to_transformers(ours, self.data.tokenizer.end_of_text_id).train()
        model.loss_type = "ForCausalLM"  # what it is; left unset, Trainer warns and guesses
        model.config.use_cache = False
        if self.config.training.fsdp:  # Trainer leaves it where it is, and the preflight needs it
            model.to(self.hardware.device)
        self.model = TwinAsGPT(model, model_config)
        return GPTTrainer(self.config, self.data, *where, model=model, **settings)

    def go(self) -> None:
        settings, progress = self.config.training, self.progress
        try:
            if progress.step < settings.max_steps:
                self.before()
                if not self.stop.heard():
                    with no_bars():
                        self.trainer.train(
                            resume_from_checkpoint=str(self.kept) if self.kept else None
                        )
        finally:
            self.logger.close()
        if progress.step == settings.max_steps:
            try:
                if self.first:
                    self.export()
            except UserError as error:  # the run is whole without
                self.say(f"{relative(self.folder)} can't be exported: {error}")
        if self.stop.heard():
            self.tell(events.Stopped(progress.step, self.stop.reason))
        else:
            self.tell(events.Finished(progress.step, progress.seconds, progress.best))

    def before(self) -> None:
        done = self.progress.step
        self.tell(preflight(self.config, self.data, self.hardware, self.model, done)[0])

    def export(self) -> None:
        export_run(self.folder)

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.clock = time.perf_counter()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        synchronize(self.hardware.device)
        self.seconds = time.perf_counter() - self.clock
        self.progress.step = state.global_step
        self.progress.seconds += self.seconds
        self.progress.tokens += self.trainer.tokens_of_step

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
        logs: dict[str, float], **_: Any,
    ) -> None:  # fmt: skip
        state.log_history.clear()  # metrics.jsonl is the record; this one is in every checkpoint
        if "grad_norm" not in logs:
            return  # the totals at the end
        loss, progress = logs["loss"], self.progress
        if not (math.isfinite(loss) and math.isfinite(logs["grad_norm"])):
            what = f"The loss became {loss} (gradient norm {logs['grad_norm']})"
            raise diverged(self.config, f"{what} at step {progress.step}", self.kept)
        step = self.step_event(loss, logs)
        self.logger.log(step)
        self.tell(step)
        if self.stop.heard():
            control.should_save = control.should_training_stop = True
        self.clock = time.perf_counter()

    def step_event(self, loss: float, logs: dict[str, float]) -> events.Event:
        progress, n_tokens = self.progress, self.trainer.tokens_of_step
        return events.Step(
            step=progress.step,
            loss=loss,
            bits_per_byte=bits_per_byte(loss, self.data.train_counts),
            learning_rate=logs["learning_rate"],
            grad_norm=logs["grad_norm"],
            tokens=progress.tokens,
            tokens_per_second=n_tokens / self.seconds,
            mfu=n_tokens
            / self.seconds
            * self.flops_per_token
            / (self.hardware.peak_flops * ranks.world_size()),
            seconds=progress.seconds,
        )

    def evaluate(self, step: int) -> dict[str, float]:
        """On the whole validation split, by the same code as the own loop."""
        evaluation = evaluate_run(
            self.config, self.data, self.hardware, self.model, self.progress, self.kept
        )
        # Our own GPT is what writes, with its cache, and what `best` holds.
        ours = from_transformers(gathered(self.model.twin)).to(self.hardware.device)
        sample = write_sample(self.config, self.data, ours, step)
        self.logger.log(evaluation)
        self.logger.log(sample)
        if evaluation.is_best and self.first:  # before the checkpoint that says so
            checkpoint.save(
                self.folder / "checkpoints" / "best", ours, {"progress": asdict(self.progress)}
            )
        self.unreported += [evaluation, sample]
        return {
            "eval_loss": evaluation.nats_per_token,
            "eval_bits_per_byte": evaluation.bits_per_byte,
        }

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        ranks.wait_for_all()  # each writes the state of its own random generators
        if self.first:
            ours = {
                "progress": asdict(self.progress),
                "place": self.trainer.place,
                "precision": self.hardware.precision,
                "processes": ranks.world_size(),
            }
            mark_whole(folder, ours)
        self.kept = folder
        for event in [*self.unreported, events.Checkpoint(state.global_step, relative(folder))]:
            self.tell(event)
        self.unreported.clear()
        if self.stop.heard():
            control.should_training_stop = True
        self.clock = time.perf_counter()
