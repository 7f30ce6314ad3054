/** Devices and their comings and goings, by udev. */
import { addon } from './addon.js';
import type { SystemError } from './base.js';

export interface UdevFilter {
  /** "drm", "input" and so on. */
  subsystem: string;
  /** "drm_minor", "drm_connector" and so on; any when absent. */
  devtype?: string;
}

export interface UdevDevice {
  subsystem: string;
  devtype: string | null;
  /** "card0" */
  sysname: string;
  /** "/sys/devices/..." */
  syspath: string;
  /** "/dev/dri/card0" */
  devnode: string | null;
  /** Of the event or the device: HOTPLUG, CONNECTOR, LEASE, ID_SEAT and what else there is. */
  properties: Record<string, string>;
}

export interface UdevEvent extends UdevDevice {
  /** "add", "remove", "change", "bind" and so on. */
  action: string;
  /** The kernel's number of the event. */
  sequence: number;
}

interface NativeMonitor {
  readonly source: 'udev' | 'kernel';
  close(): void;
}

const native = addon as unknown as {
  UdevMonitor: new (
    filters: readonly UdevFilter[],
    source: 'auto' | 'udev' | 'kernel',
    receiveBufferBytes: number,
    onEvents: (events: UdevEvent[], overflow: boolean) => void,
    onError: (error: SystemError) => void,
  ) => NativeMonitor;
  enumerateDevices(filter: UdevFilter): (UdevDevice & { action: null; sequence: number })[];
};

export interface UdevMonitorOptions {
  /** What is wanted; everything when both lists are absent. */
  subsystems?: readonly string[];
  filters?: readonly UdevFilter[];
  /**
   * `udev`: what udevd has dealt with, with ID_SEAT and a device node that can be opened. `kernel`: what the kernel says.
   * `auto`, the default: udev where udevd runs.
   */
  source?: 'auto' | 'udev' | 'kernel';
  /** Room for events that were not read yet; 8 MiB when absent, less where the system does not permit that. */
  receiveBufferBytes?: number;
  /**
   * All events that came at once. They are hints: look at the devices themselves. With `overflow` some were lost, and
   * everything is to be looked at again, even when `events` is empty.
   */
  onEvents(events: UdevEvent[], info: { overflow: boolean }): void;
  /** The monitor broke and is closed. Absent: it is thrown. */
  onError?(error: SystemError): void;
}

/** Hears of devices from its making to its `close`; alive meanwhile. */
export class UdevMonitor {
  private readonly monitor: NativeMonitor;

  /** Throws a SystemError. */
  constructor(options: UdevMonitorOptions) {
    const { subsystems = [], filters = [], source = 'auto', receiveBufferBytes = 8 << 20 } = options;
    this.monitor = new native.UdevMonitor(
      [...subsystems.map((subsystem) => ({ subsystem })), ...filters],
      source,
      receiveBufferBytes,
      (events, overflow) => options.onEvents(events, { overflow }),
      (error) => {
        if (options.onError === undefined) throw error;
        options.onError(error);
      },
    );
  }

  get source(): 'udev' | 'kernel' {
    return this.monitor.source;
  }

  close(): void {
    this.monitor.close();
  }
}

/** All devices that match, with their properties. Throws a SystemError. */
export function enumerateDevices(filter: UdevFilter): UdevDevice[] {
  return native.enumerateDevices(filter).map(({ action: _action, sequence: _sequence, ...device }) => device);
}
