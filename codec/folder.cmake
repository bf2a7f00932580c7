# A product and a sum round apart: decoding matches gguf-py to the bit, and encoding gives the same file on every CPU.
target_compile_options(codec PRIVATE -ffp-contract=off)
