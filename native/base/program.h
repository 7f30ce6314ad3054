// Another program in place of this one.
#pragma once

#include <string>
#include <vector>

namespace scanout::base {

/// execve(2) of the file at `path`. The program finds the process as one does that a shell starts: the same
/// id, no signal blocked, none ignored, and the first `descriptors` descriptors and those of `passed`,
/// whether or not they are closed on exec (Node.js marks all that it was started with). Of others it has
/// those that are not closed on exec.
///
/// `arguments`: one at least, the first is the program's own name. `environment`: NAME=VALUE entries. On the
/// main thread; other threads end with the call. Returns only by throwing: SystemError when the system
/// refuses (all is as before then), UsageError for a text with a NUL, which would be cut there.
[[noreturn]] void replace_program(const std::string& path, const std::vector<std::string>& arguments,
                                  const std::vector<std::string>& environment, int descriptors,
                                  const std::vector<int>& passed = {});

} // namespace scanout::base
