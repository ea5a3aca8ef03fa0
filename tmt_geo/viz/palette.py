"""Colours that people with any common colour vision distinguish (Okabe and Ito, 2008)."""

# These reach a contrast of about 3 : 1 on white and on near-black alike, so one figure serves both themes.
SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
DEPTH_RGB = (0, 114, 178)
# For areas and markers with an outline, where the colour need not carry a thin line.
CLUSTERS = (*SERIES, "#E69F00", "#56B4E9")
UNCLUSTERED = "#999999"
# From one pole to the other through a grey that stands off white and black, and from little to much. Nothing at all is
# left bare: the page shows through.
DIVERGING = ((0.0, "#0072B2"), (0.5, "#AAAAAA"), (1.0, "#D55E00"))
SEQUENTIAL = ((0.0, "rgba(128,128,128,0.15)"), (1.0, "#0072B2"))
