/** What cannot be done for a seat; the text says why, and `kind` becomes the kind of an error of the API. */
export class SeatError extends Error {
  constructor(
    readonly kind: 'NotFound' | 'InvalidArgument' | 'Busy' | 'Unavailable',
    message: string,
  ) {
    super(message);
  }
}
