"""How large what an adapter folder holds may be. Each limit is well above what is real and below what does harm."""

MOST_TENSOR_BYTES = 8 << 30
"""Of the tensor file. The largest that we write, the released structure flow trained without LoRA, has 964 M numbers
in float32: 3.9 GB. LoRA adapters have megabytes."""

MOST_HEADER_BYTES = 8 << 20
"""Of the header in it, which is parsed as a whole: the released flow's 1,100 tensors need 0.2 MB. The format itself
would allow 100 MB."""

MOST_TENSORS = 65_536
"""In one file; the released flow with an adapter on every layer has under 2,000."""

MOST_AXES = 8
"""Of one tensor; a 3D convolution's weight has 5."""

MOST_ON_AN_AXIS = 1 << 31
"""Entries along one axis; a vocabulary has under a million. It keeps products of shapes within exact integers."""

MOST_RANK = 8_192
"""Of an adapted layer: twice the widest layer of the released flow (4,096), beyond which a rank only costs memory."""

MOST_JSON_BYTES = 4 << 20
"""Of `sam3d.json` and `adapter_config.json`: with every layer of the released flow listed, 0.3 MB."""

MOST_JSON_DEPTH = 32
"""Of nested brackets; ours nest 6 deep. Python's parser gives up at about 1,000, and other readers sooner."""

MOST_JSON_VALUES = 200_000
"""Entries of all objects and lists together, so that small texts don't become large in memory."""

MOST_DIGITS = 400
"""Of one number as text: the longest that a float needs is 327 characters ("%f" of the smallest). Longer ones cost
time that grows with the square of their length."""

MOST_WHOLE = 1 << 63
"""Whole numbers lie below, on both sides of 0: anything else here counts something."""

MOST_CARD_BYTES = 1 << 20
"""Of the card, which is text for people."""

MOST_ENTRIES = 256
"""Files and folders beside the four of an adapter; a training run's folder has a dozen."""
