// The report's page, embedded as web/ builds it (see cmake/ThimbleEmbed.cmake).
#pragma once

#include <string_view>

namespace thimble {

extern const std::string_view kReportHtml;  // with the places {{title}} and {{data}}

}  // namespace thimble
