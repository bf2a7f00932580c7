include(ThimbleEmbed)
set(calibration_texts english.txt german.txt french.txt korean.txt japanese.txt chinese.txt code.txt chat_en.jsonl
                      chat_multi.jsonl)
list(TRANSFORM calibration_texts PREPEND quant/calibration_text/)
thimble_embed(quant quant/default_texts.h ${calibration_texts})
