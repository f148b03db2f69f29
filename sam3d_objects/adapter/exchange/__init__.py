"""Adapters between sites: as arrays, as bytes, and averaged. It needs no framework for federated learning."""

from sam3d_objects.adapter.exchange.averaging import FEDAVG, FROZEN_A, RULES, SVD, Average, average, check_rule
from sam3d_objects.adapter.exchange.parameters import AdapterParameters, Key, Layer, Manifest, check_same
from sam3d_objects.adapter.exchange.transfer import freeze_a, get_parameters, set_parameters
from sam3d_objects.adapter.exchange.wire import decode, encode, most_bytes

__all__ = [
    "FEDAVG",
    "FROZEN_A",
    "RULES",
    "SVD",
    "AdapterParameters",
    "Average",
    "Key",
    "Layer",
    "Manifest",
    "average",
    "check_rule",
    "check_same",
    "decode",
    "encode",
    "freeze_a",
    "get_parameters",
    "most_bytes",
    "set_parameters",
]
