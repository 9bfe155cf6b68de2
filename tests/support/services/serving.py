"""Serves exported models as TensorFlow Serving's REST API does, without this project: run as a program.

Each line of the input is a request: the JSON body of `:predict`, with the path of the model as `model`. Each line of
the output is the response. Tensors are made of JSON as in `tensorflow_serving/util/json_tensor.cc`: every input must be
given, numbers with a fraction are no integers, and `NaN` is a number.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import tensorflow as tf

JSON_TYPES = {tf.float32: (int, float), tf.int32: (int,), tf.string: (str,)}
load = functools.cache(tf.saved_model.load)


def respond(request: dict[str, Any]) -> dict[str, Any]:
    try:
        signature = load(request["model"]).signatures[request["signature_name"]]
        specs = signature.structured_input_signature[1]
        in_rows = "instances" in request
        columns = columns_of(request["instances"], specs) if in_rows else request["inputs"]
        require_names(columns, specs)
        tensors = {name: tensor_of(values, specs[name]) for name, values in columns.items()}
        outputs = {name: tensor.numpy().tolist() for name, tensor in signature(**tensors).items()}
    except (ValueError, tf.errors.InvalidArgumentError) as error:
        return {"error": str(error)}
    if not in_rows:
        return {"outputs": outputs if len(outputs) > 1 else next(iter(outputs.values()))}
    if len(outputs) == 1:
        return {"predictions": next(iter(outputs.values()))}
    rows = zip(*outputs.values(), strict=True)
    return {"predictions": [dict(zip(outputs, row, strict=True)) for row in rows]}


def columns_of(instances: list[dict[str, Any]], specs: dict[str, tf.TensorSpec]) -> dict[str, list]:
    for instance in instances:
        require_names(instance, specs)
    return {name: [instance[name] for instance in instances] for name in specs}


def require_names(given: dict[str, Any], specs: dict[str, tf.TensorSpec]) -> None:
    if given.keys() != specs.keys():
        raise ValueError(f"keys must be equal to: {','.join(sorted(specs))}")


def tensor_of(values: list, spec: tf.TensorSpec) -> tf.Tensor:
    first = values
    while isinstance(first, list):
        first = first[0]
    if not isinstance(first, JSON_TYPES[spec.dtype]):
        raise ValueError(f"{spec.name}: JSON value {first!r} is not of expected type: {spec.dtype.name}")
    return tf.constant(values, spec.dtype)


if __name__ == "__main__":
    # Imports of these fail from now on.
    sys.modules |= dict.fromkeys(
        ("preprocessing", "trainer", "tensorflow_addons", "tensorflow_io", "librosa")
    )
    for line in sys.stdin:
        print(json.dumps(respond(json.loads(line))), flush=True)
