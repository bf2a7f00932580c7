// The report's page, embedded from web/ (see cmake/ThimbleEmbed.cmake).
#pragma once

#include <string_view>

namespace thimble {

extern const std::string_view kReportHtml;  // with the places {{title}}, {{css}}, {{js}} and {{data}}
extern const std::string_view kReportCss;
extern const std::string_view kReportJs;

}  // namespace thimble
