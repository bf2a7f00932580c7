// The calibration texts that come with Thimble: quant/calibration_text/, compiled in.
#pragma once

#include <string_view>

namespace thimble {

extern const std::string_view kEnglishTxt, kGermanTxt, kFrenchTxt, kKoreanTxt, kJapaneseTxt, kChineseTxt,
    kCodeTxt;
extern const std::string_view kChatEnJsonl, kChatMultiJsonl;

}  // namespace thimble
