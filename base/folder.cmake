target_link_libraries(base PUBLIC ${CMAKE_DL_LIBS})  # for base/ranks.cc, where the C library has it apart
