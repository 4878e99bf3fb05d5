/** The echo of the other peers. */
service Echo {
  /** Sends it back. */
  binary echo(1: binary body);
}
