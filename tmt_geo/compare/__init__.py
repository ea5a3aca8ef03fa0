"""Models side by side: suites of rows, each trained and measured alike, one resumable run after the other."""

from tmt_geo.compare.results import load_results, result_file
from tmt_geo.compare.run import Corpus, load_corpus, run_suite
from tmt_geo.compare.suite import Recipe, Row, Suite
from tmt_geo.compare.suites import SUITES

__all__ = ["SUITES", "Corpus", "Recipe", "Row", "Suite", "load_corpus", "load_results", "result_file", "run_suite"]
