"""`objective: mlm`: a small encoder that guesses masked tokens, on the same blocks.

The seed of this project says "masked language modeling" in its heading and means a GPT in its text;
here is the other one, to see what differs. 15 % of the tokens of a block are to be guessed, from
both sides; of them 8 in 10 are replaced by a mask, 1 by any token, 1 stays (Devlin et al., 2018):
transformers' own collator. The encoder is ModernBERT's, with random weights; rejected: BERT's,
whose norms stand after the branches and need a gentler start.

Its loss is in nats per *masked* token, each guessed with its right-hand neighbours in sight. No
product of such guesses is the probability of a text, so there are no bits per byte, and no
comparison with a GPT's loss. End-of-text is never masked, and so padding isn't.

Which tokens are masked is a function of the seed and the step, in the validation split of the seed
and the block: a resumed run and every evaluation see the same masks, whatever the batch.
"""

import itertools
import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, IterableDataset
from transformers import (
    DataCollatorForLanguageModeling,
    ModernBertConfig,
    ModernBertForMaskedLM,
    PreTrainedTokenizerFast,
)

from wikigpt.blocks.sampler import indices_of_step
from wikigpt.blocks.shards import IGNORE, TokenBlocks
from wikigpt.config import Config, GPTConfig
from wikigpt.errors import UserError
from wikigpt.training import events, ranks
from wikigpt.training.export import no_bars
from wikigpt.training.gpt_trainer import GPTTrainer
from wikigpt.training.progress import diverged
from wikigpt.training.trainer import Run

MASK = "<|mask|>"
_VALIDATION = 2**40  # block 0, as the number of a step: one that no run reaches


def tokenizer_with_mask(tokenizer: Any, block_size: int) -> PreTrainedTokenizerFast:
    """Ours as `tokenizer.json` has it, and one more token, the last.

    Unlike the one of a GPT, it takes `<|mask|>` in a text for the mask.
    """
    hub = tokenizer.to_hub(model_max_length=block_size)
    hub.add_special_tokens({"mask_token": MASK, "pad_token": hub.eos_token})
    hub.split_special_tokens = False
    return hub


def encoder(config: Config, tokenizer: PreTrainedTokenizerFast) -> ModernBertForMaskedLM:
    """With the layers, heads and width of `config.model`, and weights as large as our GPT's."""
    shape, end = config.model, tokenizer.eos_token_id
    return ModernBertForMaskedLM(
        ModernBertConfig(
            vocab_size=len(tokenizer), hidden_size=shape.n_embd, num_hidden_layers=shape.n_layer,
            num_attention_heads=shape.n_head, intermediate_size=shape.n_embd * 8 // 3,
            max_position_embeddings=shape.block_size, local_attention=shape.block_size,
            initializer_range=0.02 * (768 / shape.n_embd) ** 0.5, embedding_dropout=shape.dropout,
            mlp_dropout=shape.dropout, attention_dropout=shape.dropout, pad_token_id=end,
            bos_token_id=end, eos_token_id=end, cls_token_id=end, sep_token_id=end,
        )
    )  # fmt: skip


class Masker:
    """ids_BT -> ids_BT with masks, and labels_BT: the token where it is to be guessed, or -100."""

    def __init__(self, config: Config, tokenizer: PreTrainedTokenizerFast) -> None:
        self.seed, self.end, self.mask = (
            config.seed, tokenizer.eos_token_id, tokenizer.mask_token_id
        )  # fmt: skip
        self.collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)

    def __call__(self, ids_BT: torch.Tensor, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        seed = np.random.SeedSequence([self.seed, step]).generate_state(1, np.uint64)[0]
        self.collator.generator = torch.Generator().manual_seed(int(seed >> 1))
        ends_BT = ids_BT == self.end
        hidden_BT, labels_BT = self.collator.torch_mask_tokens(
            ids_BT.clone(), special_tokens_mask=ends_BT
        )
        # Few tokens may draw no mask at all, and their loss would be 0 / 0: then one is hidden.
        if (labels_BT == IGNORE).all() and not ends_BT.all():
            place = (~ends_BT).flatten().nonzero()[0]
            hidden_BT.flatten()[place] = self.mask
            labels_BT.flatten()[place] = ids_BT.flatten()[place]
        return hidden_BT, labels_BT


class MaskedBatches(IterableDataset):
    """A run's micro-batches from step `start` on."""

    def __init__(self, config: Config, blocks: TokenBlocks, masker: Masker, start: int) -> None:
        self.config, self.blocks, self.masker, self.start = config, blocks, masker, start

    def __len__(self) -> int:
        return self.config.training.max_steps * self.config.training.grad_accumulation_steps

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        size = self.config.training.micro_batch_size
        for step in range(self.start, self.config.training.max_steps):
            ids_BT, _ = self.blocks.batch(indices_of_step(self.config, len(self.blocks), step))
            parts = (part.split(size) for part in self.masker(ids_BT, step))
            for ids, labels in zip(*parts, strict=True):
                yield {"input_ids": ids, "labels": labels}


@torch.inference_mode()
def evaluate_masked(
    model: ModernBertForMaskedLM, blocks: TokenBlocks, masker: Masker, batch_size: int
) -> tuple[float, float, int]:
    """On a whole split, its masks always the same.

    Returns: nats per masked token, the share that is guessed right, how many there are.
    """
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    nats, right, masked, block = 0.0, 0, 0, itertools.count(_VALIDATION)
    for ids_BT, _ in blocks.batches(batch_size):
        pairs = [masker(its, next(block)) for its in ids_BT.split(1)]
        ids, labels = (torch.cat(its) for its in zip(*pairs, strict=True))
        logits_NV = model(ids.to(device)).logits[labels != IGNORE].float()
        targets = labels[labels != IGNORE].to(device)
        nats += F.cross_entropy(logits_NV, targets, reduction="sum").item()
        right += int((logits_NV.argmax(-1) == targets).sum())
        masked += len(targets)
    model.train(was_training)
    return nats / masked, right / masked, masked


class _MaskedTrainer(GPTTrainer):
    masker: Masker

    def get_train_dataloader(self) -> DataLoader:
        batches = MaskedBatches(self.config, self.data.train, self.masker, self.start)
        # As in micro_batches.py, the generator is one that nothing else draws from.
        return DataLoader(batches, batch_size=None, generator=torch.Generator())


class MaskedRun(Run):
    """A run as any other of Trainer's, with its own model, evaluation and export."""

    Best = events.MaskedEvaluation

    def make_trainer(self, model_config: GPTConfig, *where: Any, **settings: Any) -> GPTTrainer:
        if ranks.world_size() > 1:
            raise UserError("objective: mlm is trained by one process; start it without torchrun.")
        self.tokenizer = tokenizer_with_mask(self.data.tokenizer, model_config.block_size)
        self.masker = Masker(self.config, self.tokenizer)
        self.model = encoder(self.config, self.tokenizer)
        trainer = _MaskedTrainer(self.config, self.data, *where, model=self.model, **settings)
        trainer.masker = self.masker
        return trainer

    def before(self) -> None:
        """The preflight speaks of bits per byte."""

    def step_event(self, loss: float, logs: dict[str, float]) -> events.MaskedStep:
        progress = self.progress
        return events.MaskedStep(
            progress.step, loss, logs["learning_rate"], logs["grad_norm"], progress.seconds
        )

    def evaluate(self, step: int) -> dict[str, float]:
        start, best = time.perf_counter(), self.progress.best
        size = self.config.training.micro_batch_size
        with self.hardware.autocast():
            nats, accuracy, masked = evaluate_masked(
                self.model, self.data.validation, self.masker, size
            )
        if not math.isfinite(nats):
            what = f"The validation loss became {nats} at step {step}"
            raise diverged(self.config, what, self.kept)
        is_best = best is None or nats < best.nats_per_masked_token
        evaluation = events.MaskedEvaluation(
            step, nats, accuracy, masked, is_best, time.perf_counter() - start
        )
        self.progress.evaluated_at = step
        self.progress.best = evaluation if is_best else best
        self.logger.log(evaluation)
        self.unreported.append(evaluation)
        return {"eval_loss": nats, "eval_accuracy": accuracy}

    def export(self) -> None:
        """The last weights and the tokenizer with the mask, as `pipeline("fill-mask")` wants it."""
        with no_bars():
            self.model.save_pretrained(self.folder)
            self.tokenizer.save_pretrained(self.folder)
