# thimble_embed(TARGET HEADER FILES...): compiles text files into TARGET as the std::string_views that HEADER
# (from the root, like an include) declares in namespace thimble. web/report.css becomes kReportCss.
#
# The same file, run by cmake -P, does the writing at build time, so that an edited page is embedded anew.

function(thimble_embed target header)
  get_filename_component(name ${header} NAME_WE)
  set(output ${CMAKE_BINARY_DIR}/embedded/${name}.cc)
  list(TRANSFORM ARGN PREPEND ${CMAKE_SOURCE_DIR}/ OUTPUT_VARIABLE files)
  add_custom_command(
    OUTPUT ${output}
    COMMAND ${CMAKE_COMMAND} -D HEADER=${header} -D OUTPUT=${output} "-DFILES=${files}"
            -P ${CMAKE_SOURCE_DIR}/cmake/ThimbleEmbed.cmake
    DEPENDS ${files} ${CMAKE_SOURCE_DIR}/cmake/ThimbleEmbed.cmake
    VERBATIM)
  target_sources(${target} PRIVATE ${output})
endfunction()

if(CMAKE_SCRIPT_MODE_FILE)
  set(code "#include \"${HEADER}\"\n\nnamespace thimble {\n")
  foreach(file IN LISTS FILES)
    get_filename_component(stem ${file} NAME)
    string(REGEX MATCHALL "[A-Za-z0-9]+" words ${stem})
    set(constant k)
    foreach(word IN LISTS words)
      string(SUBSTRING ${word} 0 1 first)
      string(SUBSTRING ${word} 1 -1 rest)
      string(TOUPPER ${first} first)
      string(APPEND constant ${first}${rest})
    endforeach()
    file(READ ${file} text)
    if(text MATCHES "\\)embedded\"")
      message(FATAL_ERROR "${file}: holds the end mark of the literal that it is embedded as")
    endif()
    string(APPEND code "\nconst std::string_view ${constant} = R\"embedded(${text})embedded\";\n")
  endforeach()
  file(WRITE ${OUTPUT} "${code}\n}  // namespace thimble\n")
endif()
