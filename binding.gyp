{
  # A static core without N-API, a thin add-on over it, the C client, and what the tests need.
  "variables": {
    "pkgs": "libdrm libudev libsystemd libseat pixman-1 libpng",
  },
  "target_defaults": {
    "cflags": ["-Wall", "-Wextra", "-Werror=return-type", "-fvisibility=hidden", "-D_FILE_OFFSET_BITS=64"],
    "cflags_cc": ["-std=c++20", "-Wno-missing-field-initializers"],
    "cflags_c": ["-std=c11", "-D_GNU_SOURCE"],
    "cflags_cc!": ["-fno-exceptions", "-fno-rtti", "-std=gnu++17", "-std=gnu++20"],
    "cflags!": ["-fno-exceptions"],
    "include_dirs": ["native", "clients/c"],
  },
  "targets": [
    {
      "target_name": "core",
      "type": "static_library",
      "sources": ["<!@(find native -name '*.cc' -not -path 'native/addon/*' | sort)"],
      "cflags": ["<!@(pkg-config --cflags <(pkgs))", "-fPIC"],
      "direct_dependent_settings": {"cflags": ["<!@(pkg-config --cflags <(pkgs))"]},
      "link_settings": {"libraries": ["<!@(pkg-config --libs <(pkgs))", "-lpthread"]},
    },
    {
      "target_name": "client",
      "type": "static_library",
      "sources": ["clients/c/scanoutd-client.c"],
      "cflags": ["-fPIC"],
    },
    {
      "target_name": "scanoutd",
      "type": "loadable_module",
      "dependencies": ["core", "client"],
      "sources": ["<!@(find native/addon -name '*.cc' | sort)"],
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
      "defines": ["NAPI_VERSION=9", "NAPI_CPP_EXCEPTIONS", "NODE_ADDON_API_DISABLE_DEPRECATED"],
    },
    {
      "target_name": "native_tests",
      "type": "executable",
      "dependencies": ["core", "client"],
      "sources": ["<!@(find test/native -name '*.cc' | sort)"],
    },
    {
      # An errno-queueing layer between the daemon and libdrm (LD_PRELOAD), for faults no driver produces on demand.
      "target_name": "faults",
      "type": "shared_library",
      "product_prefix": "lib",
      "sources": ["test/faults/faults.c"],
      "cflags": ["-fPIC", "<!@(pkg-config --cflags libdrm)", "-fvisibility=default"],
      "libraries": ["-ldl"],
    },
    {
      "target_name": "example",
      "type": "executable",
      "dependencies": ["client"],
      "sources": ["clients/c/example.c"],
    },
    {
      # The smallest correct flip loop, the measure of `npm run bench`.
      "target_name": "reference",
      "type": "executable",
      "dependencies": ["client"],
      "sources": ["test/bench/reference.c"],
      "cflags": ["-O2", "<!@(pkg-config --cflags libdrm)"],
      "libraries": ["<!@(pkg-config --libs libdrm)"],
    },
    {
      # The guests of the benchmark. The wrapped write stamps each kick.
      "target_name": "bench_guest",
      "type": "executable",
      "dependencies": ["client"],
      "sources": ["test/bench/guest.c"],
      "cflags": ["-O2"],
      "ldflags": ["-Wl,--wrap=write"],
    },
    {
      # A virtual machine's display without the machine: the front end of vhost-user-gpu and its driver.
      "target_name": "bench_virtio",
      "type": "executable",
      "sources": ["test/bench/virtio.cc"],
      "cflags": ["-O2"],
    },
    {
      # The display of QEMU without QEMU.
      "target_name": "bench_dbus",
      "type": "executable",
      "dependencies": ["client"],
      "sources": ["test/bench/dbus.c", "test/bench/dbus-control.c"],
      "cflags": ["-O2", "<!@(pkg-config --cflags libsystemd)"],
      "libraries": ["<!@(pkg-config --libs libsystemd)"],
    },
    {
      # An eventfd on the loop of Node.js, for the benchmark's loop in JavaScript.
      "target_name": "bench_watch",
      "type": "loadable_module",
      "sources": ["test/bench/watch.c"],
    },
    {
      # Stamps the commits of whatever program is measured (LD_PRELOAD).
      "target_name": "stamp",
      "type": "shared_library",
      "product_prefix": "lib",
      "sources": ["test/bench/stamp.c"],
      "cflags": ["-O2", "-fPIC", "<!@(pkg-config --cflags libdrm)", "-fvisibility=default"],
    },
  ],
}
