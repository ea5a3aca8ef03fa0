"""Language models side by side: the committed results of ``tmt_geo.compare`` and the README's section."""
