/** The D-Bus front end: `org.scanoutd1` on the system bus where there is one, and on a socket of its own. */
import type { Config } from '../config/config.js';
import { memfdOf } from '../native/base.js';
import { Bus, BusServer, type InterfaceDescription, type Sender } from '../native/bus.js';
import type { Logger } from '../service/log.js';
import { ApiError } from './errors.js';
import type { Caller, Manager } from './manager.js';

export const BUS_NAME = 'org.scanoutd1';
export const MANAGER_PATH = '/org/scanoutd1';
export const MANAGER_INTERFACE = 'org.scanoutd1.Manager';
