# A product and a sum round apart: decoding matches gguf-py to the bit, and encoding gives the same file on every CPU.
# Vectors that are wider than the baseline have stay within a unit, so how they would be passed does not matter.
target_compile_options(codec PRIVATE -ffp-contract=off -Wno-psabi)
