/** What tests of seqpacket sockets share. */
import type { Fd } from '../../src/native/base.js';
import {
  type MessageFlags,
  SeqPacket,
  type SeqPacketLimits,
  SeqPacketServer,
  type SeqPacketServerOptions,
} from '../../src/native/seqpacket.js';
import { socketPath, until } from './sockets.js';

export interface Message {
  data: Uint8Array;
  fds: Fd[];
  flags: MessageFlags;
}

/** One end, with what it was told. */
export class End {
  readonly messages: Message[] = [];
  closed: string | null = null;
  drained = 0;

  constructor(readonly socket: SeqPacket) {
    socket.onMessage = (data, fds, flags) => this.messages.push({ data, fds, flags });
    socket.onClose = (reason) => {
      this.closed = reason;
    };
    socket.onDrain = () => {
      this.drained += 1;
    };
  }

  async next(): Promise<Message> {
    await until('a message', () => this.messages.length > 0);
    return this.messages.shift() as Message;
  }
}

export async function connectTo(
  options: Partial<SeqPacketServerOptions> = {},
  clientLimits: SeqPacketLimits = {},
): Promise<{ server: SeqPacketServer; client: SeqPacket; accepted: SeqPacket; path: string }> {
  const path = socketPath();
  const connections: SeqPacket[] = [];
  const server = SeqPacketServer.listen(path, { onConnection: (made) => connections.push(made), ...options });
  const client = SeqPacket.connect(path, clientLimits);
  await until('a connection', () => connections.length > 0);
  return { server, client, accepted: connections[0] as SeqPacket, path };
}

export const bytes = (...values: number[]) => new Uint8Array(values);
export const plain = { truncated: false, controlTruncated: false };
