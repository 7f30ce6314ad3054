{
  # A static core without N-API, a thin add-on over it, the C client, and what the tests need.
  "variables": {
    "pkgs": "libdrm libudev libsystemd libseat pixman-1 libpng wayland-server libinput libevdev",
    # In a place that compile_commands.json can name, which it cannot of gyp's own.
    "generated": "build/generated",
    "drm_lease_xml": "<!(pkg-config --variable=pkgdatadir wayland-protocols)/staging/drm-lease/drm-lease-v1.xml",
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
      # What wayland-scanner makes of the description of the protocol, for both ends of it.
      "target_name": "drm_lease_protocol",
      "type": "static_library",
      "hard_dependency": 1,
      "sources": ["native/wayland/drm-lease-v1.c"],
      "actions": [
        {
          "action_name": "server_header",
          "inputs": ["<(drm_lease_xml)"],
          "outputs": ["<(generated)/drm-lease-v1-server.h"],
          "action": ["wayland-scanner", "server-header", "<(drm_lease_xml)", "<@(_outputs)"],
        },
        {
          "action_name": "client_header",
          "inputs": ["<(drm_lease_xml)"],
          "outputs": ["<(generated)/drm-lease-v1-client.h"],
          "action": ["wayland-scanner", "client-header", "<(drm_lease_xml)", "<@(_outputs)"],
        },
        {
          "action_name": "code",
          "inputs": ["<(drm_lease_xml)"],
          "outputs": ["<(generated)/drm-lease-v1-code.h"],
          "action": ["wayland-scanner", "private-code", "<(drm_lease_xml)", "<@(_outputs)"],
        },
      ],
      "cflags": ["<!@(pkg-config --cflags wayland-server)", "-fPIC"],
      "include_dirs": ["<(generated)"],
      "direct_dependent_settings": {"include_dirs": ["<(generated)"]},
    },
    {
      "target_name": "core",
      "type": "static_library",
      "dependencies": ["drm_lease_protocol"],
      "sources": ["<!@(find native -name '*.cc' -not -path 'native/addon/*' | sort)"],
      "cflags": ["<!@(pkg-config --cflags <(pkgs))", "-fPIC"],
      "direct_dependent_settings": {"cflags": ["<!@(pkg-config --cflags <(pkgs))"]},
      "link_settings": {"libraries": ["<!@(pkg-config --libs <(pkgs))", "-lpthread"]},
    },
    {
      "target_name": "client",
      "type": "static_library",
      "sources": ["clients/c/scanoutd-client.c", "clients/c/scanoutd-input.c"],
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
      # A client of the socket for Wayland, by the client's own library.
      "target_name": "wayland_client",
      "type": "executable",
      "dependencies": ["drm_lease_protocol"],
      "sources": ["test/native/wayland_client.c"],
      "cflags": ["<!@(pkg-config --cflags wayland-client libdrm)"],
      "libraries": ["<!@(pkg-config --libs wayland-client libdrm)"],
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
      # Devices and far ends of the input tests; static, as Linux guests have no libraries.
      "target_name": "evdev",
      "type": "executable",
      "sources": ["test/machine/evdev/evdev.c"],
      "ldflags": ["-static"],
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
      # What `npm run bench` compares the way of input with, what it moves pointers with, and what stamps both.
      "target_name": "input_reference",
      "type": "executable",
      "sources": ["test/bench/input-reference.c"],
      "cflags": ["-O2"],
    },
    {
      "target_name": "input_play",
      "type": "executable",
      "sources": ["test/bench/input-play.c"],
      "cflags": ["-O2"],
    },
    {
      "target_name": "inputstamp",
      "type": "shared_library",
      "product_prefix": "lib",
      "sources": ["test/bench/input-stamp.c"],
      "cflags": ["-O2", "-fPIC", "-fvisibility=default"],
      "libraries": ["-ldl"],
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
