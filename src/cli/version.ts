/** The version that both programs say; equal to package.json's, which is not there in every installation. */
export const VERSION = '0.1.0';
