"""Every key of a YAML file is a field of a dataclass here; the text under a field documents it.

What is checked while a config is built is what can be said of it alone; a value for a field that
has no effect there is an error. Rejected: one flat list of keys (the sections tell a reader which
part of the house a key changes).
"""

from dataclasses import asdict, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from wikigpt.config.root import find_root

_STRICT = ConfigDict(extra="forbid", coerce_numbers_to_str=True, allow_inf_nan=False)
_Positive = Annotated[int, Field(gt=0)]
_Fraction = Annotated[float, Field(ge=0, lt=1)]


def _must_be_left_out(config: Any, names: tuple[str, ...], where: str) -> None:
    """Nothing is ignored silently: a value for a field that has no effect here is an error."""
    given = [f"{name}={getattr(config, name)}" for name in names if getattr(config, name)]
    if given:
        raise ValueError(f"{', '.join(given)} means nothing with {where}, or leave it out")


@dataclass(config=_STRICT)
class CorpusConfig:
    """Which text to learn from."""

    source: Literal["wikipedia-leads", "kaggle", "hub", "files"] = "wikipedia-leads"
    """`wikipedia-leads`: lead sections of Wikipedia's vital articles, no account needed.
    `kaggle`: the structured Wikipedia, whole articles. `hub`: Wikipedia on the Hugging Face hub.
    `files`: your own, listed in `files`."""
    language: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")] = "fr"
    """Language code, as in a Wikipedia's address; `wikipedia-leads` has fr, en and es."""
    files: list[str] = field(default_factory=list)
    """For `source: files`: paths of .jsonl, .parquet or .txt files, packed (.gz, .zst, .zip) or
    not. Records are in the Kaggle layout (`name`, `description`, `abstract`, `sections`) or the
    Hugging Face layout (`title`, `text`)."""
    dataset: Annotated[str, Field(pattern=r"^([\w.-]+/[\w.-]+)?$")] = ""
    """For `kaggle` and `hub`: another dataset than `wikimedia-foundation/wikipedia-structured-
    contents` and `wikimedia/wikipedia`, such as `wikimedia/structured-wikipedia`."""
    version: Annotated[str, Field(pattern=r"^(\w[\w.-]*)?$")] = ""
    """For `kaggle` a version number, for `hub` a branch, tag or commit; left empty, the newest at
    the time of the first download, and that one from then on."""
    max_files: Annotated[int, Field(ge=0)] = 0
    """For `kaggle` and `hub`: take so many files, evenly from the whole dump; 0 takes all."""
    max_articles: Annotated[int, Field(ge=0)] = 0
    """Take so many records, evenly from all the files and never the first ones; 0 takes all. What
    is bad, short or repeated among them is dropped, so that somewhat fewer may be left."""
    min_characters: Annotated[int, Field(ge=0)] = 0
    """Articles whose cleaned text is shorter are dropped."""
    duplicates: Literal["keep", "drop_exact", "drop_near"] = "keep"
    """`drop_exact`: of equal texts only the first stays. `drop_near`: of texts that are nearly
    equal too, such as bot-written ones that differ in a name and some figures; it takes one more
    pass over the corpus and about 200 bytes of memory an article."""
    validation_fraction: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Share of the articles held out for validation, chosen by a hash of the article's id."""

    def __post_init__(self) -> None:
        if self.source != "files":
            _must_be_left_out(self, ("files",), f"source={self.source}; take source=files for it")
        if self.source not in ("kaggle", "hub"):
            where = f"source={self.source}; take source=kaggle or source=hub for it"
            _must_be_left_out(self, ("dataset", "version", "max_files"), where)


@dataclass(config=_STRICT)
class TokenizerConfig:
    """How text becomes ids."""

    kind: Literal["char", "byte", "bpe", "sentencepiece"] = "char"
    """`char`: one token a character. `byte`: one a byte of UTF-8. `bpe`: byte pairs, merged as in
    GPT-2. `sentencepiece`: the library of that name. A key below that is not of this kind must be
    left out; what is left out takes the default of the kind."""
    min_count: _Positive | None = None
    """For `char`: a character gets a token of its own if the training text holds it at least this
    often; 100 by default."""
    unseen: Literal["bytes", "error"] | None = None
    """For `char`, what encoding does with any other character: spell it in UTF-8 `bytes` (the
    default), or stop with an `error`."""
    vocab_size: _Positive | None = None
    """For `bpe` and `sentencepiece`: number of tokens, with the bytes and end-of-text; 8192 by
    default."""
    pattern: str | None = None
    """For `bpe`, where text is cut before pairs are merged: `french` (the default), `gpt2`, `gpt4`
    or a regular expression of your own, in Oniguruma's syntax."""
    model_type: Literal["unigram", "bpe"] | None = None
    """For `sentencepiece`: how it learns; `unigram` by default."""
    sample_bytes: _Positive | None = None
    """For `bpe` and `sentencepiece`: train on so much text at most, taken evenly from the whole
    training split and held in memory; 100,000,000 by default."""

    def __post_init__(self) -> None:
        of_this_kind = _TOKENIZER_DEFAULTS[self.kind]
        for f in fields(self):
            if f.name == "kind":
                continue
            value = getattr(self, f.name)
            if value is None:
                setattr(self, f.name, of_this_kind.get(f.name))
            elif f.name not in of_this_kind:
                kinds = [kind for kind, keys in _TOKENIZER_DEFAULTS.items() if f.name in keys]
                raise ValueError(
                    f"{f.name} is for kind {' and '.join(kinds)}, and kind is {self.kind}; leave "
                    f"it out, or say {f.name}: null"
                )


_TOKENIZER_DEFAULTS: dict[str, dict[str, Any]] = {
    "char": {"min_count": 100, "unseen": "bytes"},
    "byte": {},
    "bpe": {"vocab_size": 8192, "pattern": "french", "sample_bytes": 10**8},
    "sentencepiece": {"vocab_size": 8192, "model_type": "unigram", "sample_bytes": 10**8},
}


@dataclass(config=_STRICT)
class GPTConfig:
    """The shape of the model."""

    arch: Literal["gpt2", "modern"] = "gpt2"
    """`gpt2`: the architecture of Radford et al. (2019). `modern`: that of Qwen3 (2025)."""
    n_layer: _Positive = 2
    """Number of transformer blocks."""
    n_head: _Positive = 2
    """Number of attention heads; must divide n_embd, unless head_dim is given."""
    n_embd: _Positive = 128
    """Width of the residual stream."""
    block_size: _Positive = 256
    """Longest context, in tokens."""
    vocab_size: Annotated[int, Field(ge=0)] = 0
    """Number of tokens; left at 0 in a YAML file, it is filled in from the tokenizer."""
    dropout: _Fraction = 0.0
    """Dropout on embeddings, attention weights and residual branches; `gpt2` only."""
    n_kv_head: _Positive | None = None
    """`modern` only: heads of keys and values, each shared by n_head / n_kv_head query heads; as
    many as n_head if left out."""
    head_dim: _Positive | None = None
    """`modern` only: channels a head, an even number; n_embd / n_head if left out."""
    intermediate_size: _Positive | None = None
    """`modern` only: width of the gated MLP. If left out, 8/3 n_embd, which costs as much as
    gpt2's 4 n_embd without a gate, rounded up to a multiple of 32, as matrix units like it."""
    activation: Literal["silu", "relu2"] | None = None
    """`modern` only: what bends the MLP's gate. `silu`, the default, makes it SwiGLU; `relu2`
    (ReLU, squared) is there to be compared with it."""
    rope_theta: Annotated[float, Field(gt=0)] | None = None
    """`modern` only: base of the rotary positions' wavelengths, of which the longest is about
    2 pi times this, in tokens; 10,000 if left out. Qwen3's own models have 1,000,000."""

    def __post_init__(self) -> None:
        if self.head_dim is None and self.n_embd % self.n_head:
            raise ValueError(f"n_head={self.n_head} must divide n_embd={self.n_embd}")
        if self.arch == "gpt2":
            names = ("n_kv_head", "head_dim", "intermediate_size", "activation", "rope_theta")
            _must_be_left_out(self, names, "arch=gpt2; take arch=modern for it")
            return
        # Filled in, so that a saved config says what the model was.
        self.n_kv_head = self.n_kv_head or self.n_head
        self.head_dim = self.head_dim or self.n_embd // self.n_head
        self.intermediate_size = self.intermediate_size or -(-self.n_embd * 8 // (3 * 32)) * 32
        self.activation = self.activation or "silu"
        self.rope_theta = self.rope_theta or 10_000.0
        if self.n_head % self.n_kv_head:
            raise ValueError(f"n_kv_head={self.n_kv_head} must divide n_head={self.n_head}")
        if self.head_dim % 2:
            raise ValueError(
                f"head_dim={self.head_dim} must be even, as rotary positions turn pairs of "
                "channels; change n_embd or n_head, or give a head_dim"
            )
        if self.dropout:
            raise ValueError(f"dropout={self.dropout} is nothing that arch=modern has; leave it 0")


@dataclass(config=_STRICT)
class TrainingConfig:
    """How the model learns."""

    engine: Literal["own", "trainer"] = "own"
    """`own`: the loop of training/loop.py, made to be read. `trainer`: transformers' Trainer, on
    the same batches, with the same losses."""
    objective: Literal["causal", "mlm"] = "causal"
    """`causal`: each token is guessed from those before it, and the model can write. `mlm`, for
    `engine: trainer` only: some tokens are masked and guessed from both sides (training/masked.py);
    what comes out is an encoder, which writes nothing and has no bits per byte."""
    max_steps: _Positive = 2000
    """Number of optimizer steps."""
    micro_batch_size: _Positive = 16
    """Blocks in one forward pass."""
    grad_accumulation_steps: _Positive = 1
    """Forward passes per optimizer step; a step sees micro_batch_size x this many blocks."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """`adamw`: for all parameters. `muon`: for the matrices of the blocks, and AdamW for the
    embeddings, norms and biases, each with a learning rate of its own (training/optim.py)."""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate, reached after warmup: of all parameters with adamw, where it is 1e-3 if
    left out; of the matrices with muon, where it is 0.02."""
    embedding_learning_rate: Annotated[float, Field(gt=0)] | None = None
    """`muon` only: peak learning rate of the embeddings, input and output; 0.01 if left out."""
    vector_learning_rate: Annotated[float, Field(gt=0)] | None = None
    """`muon` only: peak learning rate of norms and biases; 0.01 if left out."""
    schedule: Literal["cosine", "wsd"] = "cosine"
    """What the learning rate does after warmup. `cosine`: falls along half a cosine to the end.
    `wsd` (warmup, stable, decay): stays at its peak, then falls along a line."""
    decay_fraction: Annotated[float, Field(gt=0, le=1)] | None = None
    """`wsd` only: share of max_steps over which the learning rate falls; 0.2 if left out."""
    final_learning_rate_fraction: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Either schedule ends at this share of the peak."""
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    """Steps over which the learning rate rises linearly from 0 to its peak."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    """Decoupled weight decay, on matrices only (never on biases and norms); with muon not on the
    embeddings either."""
    beta1: _Fraction = 0.9
    """AdamW's memory of the gradient."""
    beta2: _Fraction = 0.99
    """AdamW's memory of the squared gradient."""
    grad_clip: Annotated[float, Field(gt=0)] = 1.0
    """The gradient is scaled down to this norm when it is longer."""
    eval_interval: _Positive = 250
    """Every so many steps: evaluate on the whole validation split, write a sample, save."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """`auto` takes the accelerator if there is one."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`auto` takes bf16 where a measured matrix product is clearly faster in it."""
    compile: bool | Literal["auto"] = "auto"
    """For `engine: own`: torch.compile for the training steps. `auto` tries it where the run is
    long enough to earn the compilation back, and keeps it where it is faster."""
    data_workers: Annotated[int, Field(ge=0)] = 0
    """For `engine: trainer`: processes that read batches ahead of the training; they change none
    of its numbers."""
    fsdp: bool = False
    """For `engine: trainer` on several GPUs under torchrun: each keeps its share of the weights,
    gradients and the optimizer's state (fully sharded data parallel, by accelerate). Nobody has
    tried it on GPUs yet: begin with a short run."""

    def __post_init__(self) -> None:
        if self.objective == "mlm" and self.engine != "trainer":
            raise ValueError("objective: mlm needs engine: trainer; the own loop trains a GPT")
        if self.objective == "mlm" and (self.data_workers or self.fsdp):
            raise ValueError("data_workers and fsdp are not for objective: mlm; leave them out")
        if self.fsdp and self.engine != "trainer":
            raise ValueError("fsdp needs engine: trainer; the own loop keeps whole models")
        if self.data_workers and self.engine != "trainer":
            raise ValueError("data_workers needs engine: trainer; the own loop reads by itself")
        if self.compile is True and self.engine == "trainer":
            raise ValueError("compile is for engine: own; leave it out")
        if self.optimizer != "adamw" and self.engine == "trainer":
            raise ValueError("engine: trainer has optimizer adamw only; muon is the own loop's")
        if self.optimizer == "adamw":
            names = ("embedding_learning_rate", "vector_learning_rate")
            _must_be_left_out(self, names, "optimizer=adamw; take optimizer=muon for it")
            self.learning_rate = self.learning_rate or 1e-3
        else:
            self.learning_rate = self.learning_rate or 0.02
            self.embedding_learning_rate = self.embedding_learning_rate or 0.01
            self.vector_learning_rate = self.vector_learning_rate or 0.01
        if self.schedule == "wsd":
            self.decay_fraction = self.decay_fraction or 0.2
        else:
            names = ("decay_fraction",)
            _must_be_left_out(self, names, "schedule=cosine; take schedule=wsd for it")


@dataclass(config=_STRICT)
class DecodingConfig:
    """How the next token is chosen, with the names and meanings of transformers' `generate`. What
    is left out has no effect."""

    temperature: Annotated[float, Field(ge=0)] = 1.0
    """0 always takes the likeliest token; 1 samples from the model's own distribution."""
    top_k: _Positive | None = None
    """Choose among so many of the likeliest tokens."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Choose among the fewest of the likeliest tokens that together have this probability."""
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Choose among the tokens that are at least this share as likely as the likeliest."""
    repetition_penalty: Annotated[float, Field(ge=1, le=100)] = 1.0
    """Positive logits of tokens that the text already holds are divided by it, negative ones
    multiplied; 1 does nothing."""
    no_repeat_ngram_size: Annotated[int, Field(ge=0)] = 0
    """So many tokens in a row never come twice in one text; 0 allows it."""

    def __post_init__(self) -> None:
        cuts = {"top_k": self.top_k, "top_p": self.top_p < 1, "min_p": self.min_p}
        if self.is_greedy and (given := [name for name, cut in cuts.items() if cut]):
            raise ValueError(
                f"{' and '.join(given)} can't change what temperature={self.temperature:g} takes, "
                "the likeliest token; leave the one or the other out"
            )

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest token is taken: below this temperature, a division overflows."""
        return self.temperature < 1e-6


@dataclass(config=_STRICT)
class SamplingConfig(DecodingConfig):
    """The texts that are written during and after training, and how their tokens are chosen."""

    temperature: Annotated[float, Field(ge=0)] = 0.7
    """0 always takes the likeliest token; 1 samples from the model's own distribution."""
    prompts: Annotated[list[str], Field(min_length=1)] = field(
        default_factory=lambda: ["La ville de ", "Une étoile est ", "film sorti en 1988"]
    )
    """The first is completed at every evaluation, all of them at the end."""
    max_new_tokens: _Positive = 200
    """Length of a completion; it ends sooner at an end-of-text token."""

    @property
    def decoding(self) -> dict[str, Any]:
        """The settings of DecodingConfig alone, by name."""
        return {f.name: getattr(self, f.name) for f in fields(DecodingConfig)}

    @property
    def in_words(self) -> str:
        """Those that have an effect: `temperature 0.7, top p 0.9`."""
        idle = asdict(DecodingConfig()) | {"temperature": None}
        its = [(name, value) for name, value in self.decoding.items() if value != idle[name]]
        return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in its)


@dataclass(config=_STRICT)
class Config:
    """One experiment."""

    name: Annotated[str, Field(pattern=r"^[\w][\w.+-]*$")] = "run"
    """The run's folder is `<runs_dir>/<name>`."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1337
    """Seed of the initial weights, of the order of the data and of the samples."""
    data_dir: str = "data"
    """Downloads and token shards; relative to the repository's root."""
    runs_dir: str = "runs"
    """Run folders; relative to the repository's root."""
    blocks: Literal["shards", "streaming"] = "shards"
    """`shards`: the corpus is tokenised once, onto the disk, and every batch is drawn from all of
    it. `streaming`: the training split is read, cleaned and tokenised while it is trained on, and
    leaves nothing on disk; articles are shuffled, but neighbouring blocks stay in one batch."""
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    model: GPTConfig = field(default_factory=GPTConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)

    def __post_init__(self) -> None:
        if self.blocks == "streaming" and self.training.data_workers > 1:
            raise ValueError(
                "a stream is read by one process: training.data_workers must be 0 or 1"
            )
        if self.training.objective == "mlm" and (
            self.blocks != "shards" or self.model.arch != "gpt2"
        ):
            raise ValueError(
                "objective: mlm needs blocks: shards, and takes the shape of model, not its arch; "
                "leave model.arch out"
            )
        if self.training.objective == "mlm" and self.model.n_embd // self.model.n_head % 2:
            raise ValueError(
                "objective: mlm turns pairs of channels; make model.n_embd / model.n_head even"
            )

    @property
    def data_path(self) -> Path:
        return find_root() / Path(self.data_dir).expanduser()

    @property
    def run_path(self) -> Path:
        return find_root() / Path(self.runs_dir).expanduser() / self.name
