include(ThimbleEmbed)
thimble_embed(eval eval/report_page.h web/report.html web/report.css web/report.js)
