"""Colours that people with any common colour vision tell apart (Okabe and Ito, 2008)."""

# These reach a contrast of about 3 : 1 on white and on near-black alike, so one figure serves both themes.
SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
DEPTH_RGB = (0, 114, 178)
