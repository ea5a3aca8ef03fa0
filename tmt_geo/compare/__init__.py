"""Models side by side: suites of rows, each trained and measured alike, one resumable run after the other."""

from tmt_geo.compare.corpus import Corpus, load_corpus
from tmt_geo.compare.language import LanguageRow, LanguageRun, LanguageSuite, Recipe
from tmt_geo.compare.results import load_results
from tmt_geo.compare.run import Run
from tmt_geo.compare.runner import run_suite
from tmt_geo.compare.suite import Row, Suite
from tmt_geo.compare.suites import SUITES

__all__ = [
    "SUITES",
    "Corpus",
    "LanguageRow",
    "LanguageRun",
    "LanguageSuite",
    "Recipe",
    "Row",
    "Run",
    "Suite",
    "load_corpus",
    "load_results",
    "run_suite",
]
