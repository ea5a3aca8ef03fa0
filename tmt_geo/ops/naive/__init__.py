"""The definitions: every operator as a loop, without tricks, under the file and function names of ``tmt_geo.ops``."""
