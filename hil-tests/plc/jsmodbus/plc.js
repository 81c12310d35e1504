// A jsmodbus server over TCP, whose every register holds its own address, and which answers
// out of order and more than once.
//
//     node plc.js MODE [REGISTERS]
//
// MODE is one of
//   right       each request is answered once
//   twice       each answer is sent twice
//   again       each answer is followed by the one before it
//   before      each answer comes after the one before it was sent again
//   swapped     every second answer is held back until the next one was sent, if need be on the
//               next connection: out of order
//   holes       what touches registers 100 to 109 is refused with exception 2
// Registers end at REGISTERS (5000 when left out); jsmodbus answers what goes beyond with fewer
// than were asked. One JSON line is printed once it serves: {"port": N}; then one line for each
// connection and each request.
'use strict'

const net = require('net')
const path = require('path')

// Where `cargo xtask setup` has installed it.
const { server: { TCP } } = require(path.join(process.env.TIDEGATE_JSMODBUS, 'node_modules/jsmodbus'))

const mode = process.argv[2] || 'right'
const registers = Number(process.argv[3] || 5000)
const HOLE = [100, 110]

const say = (what) => process.stdout.write(JSON.stringify(what) + '\n')

const holding = Buffer.alloc(registers * 2)
for (let address = 0; address < registers; address++) holding.writeUInt16BE(address, address * 2)
const bits = Buffer.alloc(Math.ceil(registers / 8))
for (let address = 0; address < registers; address++) {
  bits[address >> 3] |= ((address ^ (address >> 3)) & 1) << (address & 7)
}

let held = null

// What is sent, where jsmodbus would send `answer`.
function scrambled (socket, mode) {
  const send = socket.write.bind(socket)
  let before = null
  return (answer, done) => {
    const last = before
    before = answer
    switch (mode) {
      case 'twice':
        return send(Buffer.concat([answer, answer]), done)
      case 'again':
        return send(last ? Buffer.concat([answer, last]) : answer, done)
      case 'before':
        return send(last ? Buffer.concat([last, answer]) : answer, done)
      case 'swapped':
        if (held === null) {
          held = answer
          return true
        }
        send(Buffer.concat([answer, held]), done)
        held = null
        return true
      default:
        return send(answer, done)
    }
  }
}

const netServer = new net.Server()
let connections = 0
netServer.on('connection', (socket) => {
  connections += 1
  say({ event: 'connect', connections })
  socket.write = scrambled(socket, mode)
  socket.on('close', () => { connections -= 1; say({ event: 'close', connections }) })
  socket.on('error', () => socket.destroy())
})

const options = { holding, input: holding, coils: bits, discrete: bits }
// Without a buffer of its own jsmodbus asks for each answer.
if (mode === 'holes') options.holding = null
const server = new TCP(netServer, options)

server.on('connection', (client) => {
  const handler = client._responseHandler
  const handle = handler.handle.bind(handler)
  handler.handle = (request, done) => {
    const { fc, start, count } = request.body
    say({ event: 'request', unit: request.unitId, function: fc, start, count, connections })
    return handle(request, done)
  }
})

server.on('readHoldingRegisters', (request, done) => {
  const { fc, start, count } = request.body
  const touched = start < HOLE[1] && start + count > HOLE[0]
  const body = touched
    ? Buffer.from([fc | 0x80, 2])
    : Buffer.concat([Buffer.from([fc, count * 2]), holding.subarray(start * 2, (start + count) * 2)])
  const head = Buffer.alloc(7)
  head.writeUInt16BE(request.id, 0)
  head.writeUInt16BE(body.length + 1, 4)
  head.writeUInt8(request.unitId, 6)
  done(Buffer.concat([head, body]))
})

netServer.listen(0, '127.0.0.1', () => say({ port: netServer.address().port }))
