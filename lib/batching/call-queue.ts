// The calls that wait for their batch: first come, first served, in turns of at most so many rows each.

/** A call as the queue sees it. */
export interface QueuedCall {
  readonly rows: number;
  /** Rows that batches have taken already. */
  taken: number;
}

/**
 * A bounded queue, and a line before it for calls that do not fit. A call that a turn is too short for goes to the end of the queue
 * for its next one: so a long call holds up a short one by no more than one turn, however long it is. That is also what it takes of
 * the queue's bound, which thereby says how many rows a call at the end has before it.
 */
export class CallQueue<Call extends QueuedCall> {
  private readonly queue = new Set<Call>();
  private readonly line = new Set<Call>();
  private queuedRows = 0;
  private nextTurns = 0;

  /** @param maxRows rows of all calls' next turns together, at most; one call always fits */
  constructor(
    private readonly maxRows: number,
    private readonly turnRows: number,
  ) {}

  /** Rows in the queue that no batch has taken. */
  get rows(): number {
    return this.queuedRows;
  }

  get calls(): number {
    return this.queue.size;
  }

  /** Rows of all calls' next turns. */
  get turns(): number {
    return this.nextTurns;
  }

  /** Calls in the line. */
  get waiting(): number {
    return this.line.size;
  }

  /** Whose turn is next. */
  get first(): Call | undefined {
    return this.queue.values().next().value;
  }

  /** Whether the queue has room for a call of so many rows, and nobody waits for it already. */
  hasRoom(rows: number): boolean {
    return this.line.size === 0 && this.fits(rows);
  }

  /** Puts a call into the queue, or where that has no room at the end of the line. */
  add(call: Call): void {
    if (this.hasRoom(call.rows)) this.enter(call);
    else this.line.add(call);
  }

  /** Forgets a call, wherever it is. */
  remove(call: Call): void {
    this.line.delete(call);
    if (this.queue.delete(call)) {
      this.queuedRows -= call.rows - call.taken;
      this.nextTurns -= this.turnOf(call);
    }
    this.admit();
  }

  /**
   * Gives up to `room` rows their turn. `take` gets rows first … first + rows of a call and says how many of them it took: none, where
   * it has removed the call.
   */
  takeTurns(room: number, take: (call: Call, first: number, rows: number) => number): void {
    let left = room;
    // A call that is put back at the end comes round again in the same loop.
    for (const call of this.queue) {
      if (left === 0) break;
      const turn = this.turnOf(call);
      const rows = Math.min(turn, left);
      left -= take(call, call.taken, rows);
      if (!this.queue.has(call)) continue;
      call.taken += rows;
      this.queuedRows -= rows;
      this.nextTurns += this.turnOf(call) - turn;
      // A turn that the end of the batch cuts short goes on in the next one, before all others.
      if (rows < turn) break;
      this.queue.delete(call);
      if (call.taken < call.rows) this.queue.add(call);
    }
    this.admit();
  }

  private fits(rows: number): boolean {
    return this.queue.size === 0 || this.nextTurns + Math.min(this.turnRows, rows) <= this.maxRows;
  }

  private enter(call: Call): void {
    this.queue.add(call);
    this.queuedRows += call.rows;
    this.nextTurns += this.turnOf(call);
  }

  private turnOf({ rows, taken }: Call): number {
    return Math.min(this.turnRows, rows - taken);
  }

  /** Lets calls of the line in while they fit; none overtakes another. */
  private admit(): void {
    for (const call of this.line) {
      if (!this.fits(call.rows)) return;
      this.line.delete(call);
      this.enter(call);
    }
  }
}
