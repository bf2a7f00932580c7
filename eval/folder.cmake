include(ThimbleEmbed)
thimble_embed(eval eval/report_page.h web/dist/report.html)
