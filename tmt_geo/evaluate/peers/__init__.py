"""Models of the transformers library, built to stand beside a model of the same size."""

from tmt_geo.evaluate.peers.build import build_peer
from tmt_geo.evaluate.peers.families import FAMILIES
from tmt_geo.evaluate.peers.scan import scan_flops

PEERS = tuple(FAMILIES)

__all__ = ["PEERS", "build_peer", "scan_flops"]
