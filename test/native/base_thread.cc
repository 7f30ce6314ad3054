// What a thread of ours begins with.
#include <sys/mman.h>

#include "base/thread.h"
#include "check.h"

using namespace scanout;

TEST(thread_begins_without_the_rights_to_guarded_pages_that_its_maker_has) {
  const int key = pkey_alloc(0, 0); // the maker may read and write what it guards
  if (key < 0) SKIP("this processor or kernel has no memory protection keys");
  CHECK_EQ(pkey_get(key), 0);
  int rights = -1;
  base::Thread thread("rights", 0, [&] { rights = pkey_get(key); });
  thread.join();
  CHECK_EQ(rights, PKEY_DISABLE_ACCESS);
  CHECK_EQ(pkey_get(key), 0); // the maker's are its own
  pkey_free(key);
}
