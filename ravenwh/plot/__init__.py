"""Pictures of what was read: prices, and what belongs to them below.

Owns how klines and bars are drawn; reads nothing itself. Offers
:func:`~ravenwh.plot.chart.chart`, a figure of plotly, which is loaded when it is first asked for.
Raises Refused for frames that hold no prices, or too many to be drawn, and where plotly is not
installed. Tested on frames of a real mart: each row is drawn where and as wide as it lasted.
"""
