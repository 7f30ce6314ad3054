/** A guest that asks for its lease on the guest socket, shows one colour, and says bye at SIGTERM. */
import { RefusedError, takeLease } from '../../../clients/node/index.js';
import { Lessee } from './lessee.js';

const [, , path = '', name = '', rgb = ''] = process.argv;
const text = (words: string) => words.replaceAll(' ', '_');

try {
  const lease = await takeLease({ path, name });
  lease.on('notice', (milliseconds, reason) =>
    console.log(`@notice ms=${milliseconds} reason=${text(reason)}`),
  );
  const stays = setInterval(() => {}, 60_000);
  process.on('SIGTERM', () => {
    void lease.bye().then(() => clearInterval(stays));
  });
  void lease.ended.then((why) => {
    const code = why instanceof RefusedError ? why.code : 0;
    console.log(`@ended code=${code} reason=${text(why.message)}`);
  });
  new Lessee(lease.fd).show(Number.parseInt(rgb, 16));
  console.log(`@drawn rgb=${rgb} lease=${lease.name}`);
} catch (error) {
  if (!(error instanceof RefusedError)) throw error;
  console.log(`@refused code=${error.code} reason=${text(error.message)}`);
}
