// A vfio guest on a fake card and a fake driver: cursors, buffers that come and go, and drivers that
// misbehave.
#include <linux/vfio.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "check.h"
#include "guest_rig.h"
#include "guests/vfio.h"

using namespace scanout;
using guests::VfioGuest;
using guests::VfioNews;
using guests::VfioPlane;
using test::eventually;

namespace {

constexpr uint32_t xr24 = 0x34325258;
constexpr int64_t period = 4'000'000;
constexpr uint32_t primary_plane = 101, cursor_plane = 102;

/// A driver that answers what it is told to.
class FakeDriver {
public:
  explicit FakeDriver(test::FakeCard& card) {
    card.set_other([this](unsigned long request, void* argument) { return answer(request, argument); });
  }
  void show(uint32_t type, const VfioPlane& plane) {
    const std::lock_guard lock(mutex_);
    planes_[type] = plane;
  }
  void fail(int error) { error_ = error; }
  /// Tells of flips from now on: with an irq that is none, and one that is.
  void set_irqs(int error = 0) {
    irqs_ = VFIO_PCI_NUM_IRQS + 2;
    irq_error_ = error;
  }
  void flip(const VfioPlane& plane) {
    show(guests::vfio_primary, plane);
    signal();
  }
  void signal() const { CHECK_EQ(eventfd_write(irq_event_, 1), 0); }
  [[nodiscard]] bool heard() const { return irq_event_ >= 0; }
  std::atomic<int> queries{0};
  std::atomic<bool> flood{false}; // a new buffer at each question

private:
  int answer(unsigned long request, void* argument) {
    if (request == VFIO_DEVICE_GET_INFO) {
      static_cast<vfio_device_info*>(argument)->num_irqs = irqs_;
      return 0;
    }
    if (request == VFIO_DEVICE_GET_IRQ_INFO) return irq_info(static_cast<uint32_t*>(argument));
    if (request == VFIO_DEVICE_SET_IRQS) return set_irq(*static_cast<vfio_irq_set*>(argument));
    if (request != VFIO_DEVICE_QUERY_GFX_PLANE) return ENOTTY;
    auto& info = *static_cast<vfio_device_gfx_plane_info*>(argument);
    ++queries;
    if (error_ != 0) return error_;
    const std::lock_guard lock(mutex_);
    VfioPlane& plane = planes_.at(info.drm_plane_type);
    if (flood) ++plane.id;
    info.drm_format = plane.fourcc;
    info.width = plane.width;
    info.height = plane.height;
    info.stride = plane.stride;
    info.size = plane.size;
    info.x_pos = static_cast<uint32_t>(plane.x);
    info.y_pos = static_cast<uint32_t>(plane.y);
    info.x_hot = static_cast<uint32_t>(plane.hot_x);
    info.y_hot = static_cast<uint32_t>(plane.hot_y);
    info.dmabuf_id = plane.id;
    return 0;
  }
  // As the proposal has it: a type after the structure, and here another capability before that.
  [[nodiscard]] int irq_info(uint32_t* words) const {
    const uint32_t index = words[2];
    if (index >= irqs_) return EINVAL;
    CHECK(index >= VFIO_PCI_NUM_IRQS);
    constexpr uint32_t first = 24, second = 40, bytes = second + sizeof(vfio_region_info_cap_type);
    const uint32_t room = std::exchange(words[0], bytes);
    words[1] = VFIO_IRQ_INFO_EVENTFD | 1U << 4;
    words[3] = 1; // irqs of this index
    words[4] = first;
    if (room < bytes) return 0;
    const vfio_info_cap_header other{.id = 4, .version = 1, .next = second};
    std::memcpy(words + first / 4, &other, sizeof other);
    const vfio_region_info_cap_type type{
        .header = {.id = 3, .version = 1, .next = 0}, .type = 1, .subtype = index - VFIO_PCI_NUM_IRQS};
    std::memcpy(words + second / 4, &type, sizeof type);
    return 0;
  }
  int set_irq(const vfio_irq_set& set) {
    CHECK_EQ(set.index, uint32_t{VFIO_PCI_NUM_IRQS + 1});
    if (irq_error_ != 0) return irq_error_;
    const bool off = set.count == 0;
    CHECK_EQ(set.flags, uint32_t{VFIO_IRQ_SET_ACTION_TRIGGER} |
                            (off ? VFIO_IRQ_SET_DATA_NONE : VFIO_IRQ_SET_DATA_EVENTFD));
    int event = -1;
    if (!off) std::memcpy(&event, set.data, sizeof event);
    // As the kernel has it: a reference of its own.
    irq_held_.reset(event < 0 ? -1 : dup(event));
    irq_event_ = irq_held_.get();
    return 0;
  }
  uint32_t irqs_ = VFIO_PCI_NUM_IRQS;
  int irq_error_ = 0;
  base::UniqueFd irq_held_;
  std::atomic<int> irq_event_{-1};
  std::mutex mutex_;
  std::array<VfioPlane, 3> planes_;
  std::atomic<int> error_{0};
};

VfioPlane picture(uint32_t id, uint32_t width = 64, uint32_t height = 64) {
  return {.fourcc = xr24,
          .width = width,
          .height = height,
          .stride = width * 4,
          .size = width * height * 4,
          .id = id};
}

/// Primary and cursor of a device on CRTC 1, whose area begins at 10, 20.
struct One {
  static constexpr int no_irq = -1;
  int irq_error; // 0: the device tells of its flips
  test::FakeVfioFiles files;
  test::Rig rig;
  bool ready = rig.add_crtc(1, period) == 0;
  FakeDriver driver{rig.card};
  bool told = set_irqs(irq_error);
  VfioGuest guest{{.first_stream = 10, .plane_count = 2, .period_ns = period},
                  std::make_shared<guests::VfioDevice>(base::UniqueFd(eventfd(0, EFD_CLOEXEC))),
                  rig.engine};
  std::vector<VfioNews> heard;

  explicit One(int irq_error = no_irq) : irq_error(irq_error) {
    CHECK_EQ(rig.call([this](flip::Engine& engine) { return -guest.on_enter(engine); }), 0);
    CHECK_EQ(rig.call([this](flip::Engine&) { return guest.set_area({10, 20, 266, 276}, 1, period), 0; }), 0);
    rig.attach(guest.stream(0), 1, primary_plane);
    rig.attach(guest.stream(1), 1, cursor_plane);
  }
  One(const One&) = delete;
  One& operator=(const One&) = delete;
  ~One() { rig.leave(guest); }

  bool set_irqs(int error) {
    if (error != no_irq) driver.set_irqs(error);
    return true;
  }
  int add(uint32_t index, uint32_t slot, const VfioPlane& plane, uint32_t fb) {
    return rig.call(
        [this, index, slot, plane, fb](flip::Engine&) { return guest.add_buffer(index, slot, plane, fb); });
  }
  size_t news(VfioNews::Type type) {
    while (const std::optional<VfioNews> one = guest.news())
      heard.push_back(*one);
    return static_cast<size_t>(
        std::count_if(heard.begin(), heard.end(), [&](const VfioNews& one) { return one.type == type; }));
  }
  [[nodiscard]] bool shows(uint32_t plane, uint64_t fb) const {
    return eventually([&] { return rig.card.framebuffer(plane) == fb; });
  }
  /// Until the driver was asked some times more.
  void asked(int times) {
    const int before = driver.queries;
    CHECK(eventually([&] { return driver.queries >= before + 2 * times; }));
  }
};

} // namespace

TEST(vfio_asks_for_a_buffer_once_and_shows_it_when_it_has_it) {
  One o;
  o.driver.show(guests::vfio_primary, picture(7));
  CHECK(eventually([&] { return o.news(VfioNews::Type::unknown) == 1; }));
  o.asked(10);
  CHECK_EQ(o.news(VfioNews::Type::unknown), 1U);
  REQUIRE(o.heard.size() == 1);
  CHECK_EQ(o.heard[0].plane.id, 7U);
  CHECK_EQ(o.heard[0].index, 0U);
  CHECK_EQ(o.add(0, 0, picture(7), 1000), 0);
  CHECK(o.shows(primary_plane, 1000));
  CHECK_EQ(o.add(0, 0, picture(8), 1001), EEXIST);
  CHECK_EQ(o.add(0, guests::vfio_buffers, picture(8), 1001), EINVAL);
}

TEST(vfio_commits_nothing_while_the_device_shows_the_same) {
  One o;
  o.driver.show(guests::vfio_primary, picture(1));
  o.add(0, 0, picture(1), 1000);
  REQUIRE(o.shows(primary_plane, 1000));
  o.rig.settle();
  const int commits = o.rig.card.commits();
  o.asked(20);
  CHECK_EQ(o.rig.card.commits(), commits);
}

TEST(vfio_flips_between_known_buffers_without_a_word) {
  One o;
  o.add(0, 0, picture(1), 1000);
  o.add(0, 1, picture(2), 1001);
  for (uint32_t i = 0; i < 20; ++i) {
    o.driver.show(guests::vfio_primary, picture(1 + i % 2));
    REQUIRE(o.shows(primary_plane, 1000 + i % 2));
  }
  CHECK_EQ(o.news(VfioNews::Type::unknown), 0U);
}

TEST(vfio_takes_a_known_id_with_another_layout_for_another_buffer) {
  One o;
  o.add(0, 0, picture(1), 1000);
  o.driver.show(guests::vfio_primary, picture(1, 128, 128));
  CHECK(eventually([&] { return o.news(VfioNews::Type::unknown) == 1; }));
  CHECK_EQ(o.rig.card.framebuffer(primary_plane), 0U);
}

TEST(vfio_moves_the_cursor_without_a_new_buffer) {
  One o;
  o.add(0, 0, picture(1), 1000); // 64 pixels wide, in the middle of 256
  o.driver.show(guests::vfio_primary, picture(1));
  REQUIRE(o.shows(primary_plane, 1000));
  o.add(1, 5, picture(9), 1005);
  std::atomic<uint64_t> x{0};
  o.rig.card.set_verdict([&](uint32_t, const drm_mode_atomic& commit) {
    const auto* objects = test::user_pointer<const uint32_t>(commit.objs_ptr);
    const auto* counts = test::user_pointer<const uint32_t>(commit.count_props_ptr);
    const auto* properties = test::user_pointer<const uint32_t>(commit.props_ptr);
    const auto* values = test::user_pointer<const uint64_t>(commit.prop_values_ptr);
    for (uint32_t i = 0, next = 0; i < commit.count_objs; ++i) {
      for (uint32_t k = 0; k < counts[i]; ++k, ++next) {
        if (objects[i] == cursor_plane && properties[next] == test::card_properties().crtc_x)
          x = values[next];
      }
    }
    return 0;
  });
  VfioPlane plane = picture(9);
  for (const int32_t at : {5, 6, 100}) {
    plane.x = at;
    o.driver.show(guests::vfio_cursor, plane);
    CHECK(eventually([&] { return x == static_cast<uint64_t>(at) + 10 + 96; }));
  }
  CHECK(o.shows(cursor_plane, 1005));
  o.driver.show(guests::vfio_cursor, {});
  CHECK(o.shows(cursor_plane, 0));
  CHECK_EQ(o.news(VfioNews::Type::unknown), 0U);
}

TEST(vfio_gives_a_retired_buffer_back_when_its_successor_is_shown) {
  One o;
  o.driver.show(guests::vfio_primary, picture(1));
  o.add(0, 0, picture(1), 1000);
  REQUIRE(o.shows(primary_plane, 1000));
  struct Retire final : flip::Command {
    explicit Retire(VfioGuest& guest) : guest(guest) {}
    Result run(flip::Engine&) noexcept override { return guest.retire_buffer(0, *this), Result::later; }
    VfioGuest& guest;
  };
  REQUIRE(o.rig.engine.post(std::make_unique<Retire>(o.guest)));
  o.asked(5);
  CHECK(o.rig.engine.finished() == nullptr); // it is on the screen
  const auto told = o.news(VfioNews::Type::unknown);
  o.driver.show(guests::vfio_primary, picture(2));
  CHECK(eventually([&] { return o.news(VfioNews::Type::unknown) > told; }));
  REQUIRE(o.rig.engine.post(std::make_unique<flip::SimpleCommand<std::function<int(flip::Engine&)>>>(
      [&](flip::Engine&) { return o.guest.add_buffer(0, 1, picture(2), 1001); })));
  REQUIRE(o.shows(primary_plane, 1001));
  const auto first = o.rig.next();
  const auto second = o.rig.next();
  CHECK(first != nullptr && second != nullptr);
}

TEST(vfio_forgives_a_driver_that_fails_once) {
  One o;
  o.driver.fail(ENOMEM);
  CHECK(eventually([&] { return o.driver.queries >= 1; }));
  o.driver.fail(0);
  o.driver.show(guests::vfio_primary, picture(1));
  o.add(0, 0, picture(1), 1000);
  CHECK(o.shows(primary_plane, 1000));
  CHECK_EQ(o.news(VfioNews::Type::gone), 0U);
}

TEST(vfio_tells_that_a_device_is_gone_and_asks_no_more) {
  One o;
  o.driver.fail(ENODEV);
  CHECK(eventually([&] { return o.news(VfioNews::Type::gone) == 1; }));
  const int queries = o.driver.queries;
  timespec pause{.tv_sec = 0, .tv_nsec = 5 * period};
  nanosleep(&pause, nullptr);
  CHECK_EQ(o.driver.queries, queries);
  CHECK_EQ(o.heard.back().error, ENODEV);
}

TEST(vfio_gives_a_driver_up_that_fails_for_long) {
  One o;
  o.driver.fail(EIO);
  CHECK(eventually([&] { return o.news(VfioNews::Type::gone) == 1; }));
  CHECK(o.news(VfioNews::Type::failed) >= 3); // and says so more and more rarely
  CHECK(o.news(VfioNews::Type::failed) <= 12);
}

TEST(vfio_survives_a_driver_that_shows_a_new_buffer_each_time) {
  One o;
  o.driver.show(guests::vfio_primary, picture(1));
  o.driver.flood = true;
  o.asked(200); // nobody listens: what is told is bounded
  CHECK(o.news(VfioNews::Type::unknown) <= 64);
  o.driver.flood = false;
  o.driver.show(guests::vfio_primary, picture(1'000'000));
  CHECK(eventually([&] {
    o.news(VfioNews::Type::unknown);
    return !o.heard.empty() && o.heard.back().plane.id == 1'000'000;
  }));
}

TEST(vfio_refuses_what_is_no_device) {
  const base::UniqueFd other(eventfd(0, EFD_CLOEXEC));
  bool refused = false;
  try {
    const guests::VfioDevice device{base::UniqueFd(dup(other.get()))};
  } catch (const base::SystemError& error) {
    refused = error.error() == EINVAL;
  }
  CHECK(refused);
}

TEST(vfio_asks_a_device_that_tells_of_its_flips_when_it_does) {
  One o(0);
  REQUIRE(o.guest.heard());
  o.add(0, 0, picture(1), 1000);
  o.add(0, 1, picture(2), 1001);
  o.driver.show(guests::vfio_primary, picture(1));
  REQUIRE(o.shows(primary_plane, 1000));
  o.rig.settle();
  // Fifty refreshes or more without a flip: both planes are asked again only as a device is that may have
  // gone, each half second, and once for a question that was under way.
  const int before = o.driver.queries;
  const int64_t begun = base::now_ns();
  timespec pause{.tv_sec = 0, .tv_nsec = 50 * period};
  nanosleep(&pause, nullptr);
  const int asked = o.driver.queries - before;
  CHECK(asked <= 2 * ((base::now_ns() - begun) / 500'000'000 + 2));
  for (uint32_t i = 1; i <= 20; ++i) {
    o.driver.flip(picture(1 + i % 2));
    REQUIRE(o.shows(primary_plane, 1000 + i % 2));
  }
  CHECK_EQ(o.news(VfioNews::Type::unknown), 0U);
}

TEST(vfio_asks_a_device_that_flips_without_pause_no_more_often_than_others) {
  One o(0);
  o.driver.show(guests::vfio_primary, picture(1));
  o.add(0, 0, picture(1), 1000);
  REQUIRE(o.shows(primary_plane, 1000));
  const int before = o.driver.queries;
  const int64_t begun = base::now_ns();
  for (int i = 0; i < 20'000; ++i)
    o.driver.signal();
  const int64_t refreshes = (base::now_ns() - begun) / period + 2;
  // Two planes, at most four times a refresh.
  CHECK(o.driver.queries - before <= refreshes * 8);
}

TEST(vfio_that_tells_of_its_flips_is_asked_anew_for_what_came_with_none) {
  One o(0);
  o.driver.show(guests::vfio_primary, picture(1));
  CHECK(eventually([&] { return o.news(VfioNews::Type::unknown) == 1; }));
  o.add(0, 0, picture(1), 1000); // the answer was known before the buffer was
  REQUIRE(o.shows(primary_plane, 1000));
  o.driver.fail(ENOMEM);
  const int before = o.driver.queries;
  o.driver.signal();
  CHECK(eventually([&] { return o.driver.queries > before; }));
  o.driver.show(guests::vfio_primary, picture(2));
  o.add(0, 1, picture(2), 1001);
  o.driver.fail(0);
  CHECK(o.shows(primary_plane, 1001)); // no second irq tells of it
  // What is copied may change without a flip.
  CHECK_EQ(o.rig.call([&](flip::Engine&) { return o.guest.set_copied(0, true), 0; }), 0);
  o.asked(20);
}

TEST(vfio_gives_the_flip_irq_back) {
  One o;
  o.driver.set_irqs();
  auto device = std::make_shared<guests::VfioDevice>(base::UniqueFd(eventfd(0, EFD_CLOEXEC)));
  {
    const VfioGuest other({.first_stream = 30, .period_ns = period}, device, o.rig.engine);
    CHECK(other.heard());
    CHECK(o.driver.heard());
  }
  CHECK(!o.driver.heard());
}

TEST(vfio_asks_each_refresh_where_the_flip_irq_is_refused) {
  One o(EBUSY);
  CHECK(!o.guest.heard());
  CHECK_EQ(o.guest.irq_error(), EBUSY);
  o.driver.show(guests::vfio_primary, picture(1));
  o.add(0, 0, picture(1), 1000);
  REQUIRE(o.shows(primary_plane, 1000));
  o.asked(20);
}
