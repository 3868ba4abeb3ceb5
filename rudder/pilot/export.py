"""A trained pilot as a GGUF file: weights, tokenizer, chat template."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from rudder.pilot import vocabulary

if TYPE_CHECKING:
    from rudder.pilot.model import Pilot

#: A system text is left out: what a knob does is in the weights. So is all of a question but its last line,
#: the evidence: the pilot has learned to read that alone.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}" + vocabulary.EVIDENCE + "{{ message['content'].split('\\n')[-1] }}"
    "{% elif message['role'] == 'assistant' %}"
    + vocabulary.PLAN
    + "{{ message['content'] }}"
    + vocabulary.END
    + "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}" + vocabulary.PLAN + "{% endif %}"
)
#: Kinds of weights in the file, by the name that the command line has for them.
KINDS = ("q8_0", "f32")
_F32_FILE, _Q8_0_FILE = 0, 7  # llama.cpp's numbers for a file's main type


def export(pilot: Pilot, path: Path, kind: str = "q8_0", description: str = "") -> None:
    """Write the file. ``kind``: "q8_0" for use, "f32" to compare with torch."""
    import gguf

    shape = pilot.shape
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name("rudder-pilot")
    writer.add_description(description)
    writer.add_license("apache-2.0")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.inner)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_rope_dimension_count(shape.width // shape.heads)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_vocab_size(vocabulary.SIZE)
    writer.add_file_type(_F32_FILE if kind == "f32" else _Q8_0_FILE)
    _add_tokenizer(writer)
    for name, tensor in weights(pilot).items():
        if kind == "q8_0" and tensor.ndim == 2:
            packed = gguf.quants.quantize(tensor, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(name, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer: Any) -> None:
    writer.add_tokenizer_model("llama")
    writer.add_token_list(vocabulary.PIECES)
    writer.add_token_types(vocabulary.TYPES)
    writer.add_token_scores(vocabulary.SCORES)
    writer.add_unk_token_id(vocabulary.IDS[vocabulary.UNKNOWN])
    writer.add_bos_token_id(vocabulary.IDS[vocabulary.BEGIN])
    writer.add_eos_token_id(vocabulary.IDS[vocabulary.END])
    writer.add_add_bos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def weights(pilot: Pilot) -> dict[str, npt.NDArray[np.float32]]:
    """Every tensor by the name that llama.cpp has for it."""
    found: dict[str, Any] = {
        "token_embd.weight": pilot.table(),
        "output_norm.weight": pilot.norm,
        "output.weight": pilot.output,
    }
    names = {
        "attn_norm": "attention_norm",
        "attn_q": "query",
        "attn_k": "key",
        "attn_v": "value",
        "attn_output": "attention_out",
        "ffn_norm": "feed_norm",
        "ffn_gate": "gate",
        "ffn_up": "up",
        "ffn_down": "down",
    }
    for number, layer in enumerate(pilot.layers):
        for name, own in names.items():
            found[f"blk.{number}.{name}.weight"] = getattr(layer, own)
    return {name: tensor.detach().cpu().numpy().astype(np.float32) for name, tensor in found.items()}
