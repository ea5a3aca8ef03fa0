"""The definitions: every operator of ``tmt_geo.ops`` as a loop, without tricks."""
