"""Writes every_dtype.safetensors with the format's own library: 6 values 0..5 in each dtype, shapes of all kinds."""

import pathlib

import torch
from safetensors.torch import save_file

here = pathlib.Path(__file__).parent
values = torch.arange(6)
save_file(
    {
        "f64": values.to(torch.float64).reshape(2, 3),
        "f32": values.to(torch.float32).reshape(3, 2),
        "bf16": values.to(torch.bfloat16),
        "f16": values.to(torch.float16).reshape(1, 6),
        "i64": values.to(torch.int64).reshape(6, 1),
        "i32": values.to(torch.int32),
        "i16": values.to(torch.int16),
        "i8": values.to(torch.int8),
        "u8": values.to(torch.uint8),
        "bool": values % 2 == 1,
        "scalar": torch.tensor(1.5),
        "empty": torch.zeros(0, 4),
        "layer.0.w\u00e9ight": values.to(torch.float32) / 4,
    },
    here / "every_dtype.safetensors",
    metadata={"format": "pt"},
)
