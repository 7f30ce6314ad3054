/* What a QEMU with a D-Bus display has beside its listeners: a monitor, and the display's own objects. */
#ifndef BENCH_DBUS_CONTROL_H
#define BENCH_DBUS_CONTROL_H

/*
 * Listens at `path` as a QMP monitor, on a thread of its own, and serves whoever comes the display of a
 * machine with one console. Waits until a listener has been registered there; gives our end of its
 * connection, which is the caller's. Ends the program when something fails.
 */
int control_listener(const char* path);

#endif
