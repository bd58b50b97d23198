// Sends by a Node SDK: `node send.mjs segment`, what to send as JSON on stdin.
// Prints {"version": …, "messageIds": […]}, an id for each call. Exit 1 if the SDK gave up on anything.
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { Analytics } from '@segment/analytics-node'
import RudderAnalytics from '@rudderstack/rudder-sdk-node'

const versionOf = (name) =>
  JSON.parse(readFileSync(new URL(`node_modules/${name}/package.json`, import.meta.url))).version

const without = (call) => {
  const { kind, number, ...message } = call
  return Object.fromEntries(Object.entries(message).filter(([, value]) => value !== null))
}

async function bySegment({ url, key, calls }) {
  const analytics = new Analytics({ writeKey: key, host: url })
  const failures = []
  analytics.on('error', (error) => failures.push(error))
  const sent = calls.map(
    (call) =>
      new Promise((resolve) => {
        analytics[call.kind](without(call), (error, context) => {
          if (error) failures.push(error)
          resolve(context.event.messageId)
        })
      })
  )
  await analytics.closeAndFlush()
  return { version: versionOf('@segment/analytics-node'), messageIds: await Promise.all(sent), failures }
}

async function byRudderStack({ url, key, calls }) {
  const failures = []
  const analytics = new RudderAnalytics(key, {
    dataPlaneUrl: url,
    logLevel: 'none',
    errorHandler: (error) => failures.push(error),
  })
  const sent = calls.map(
    (call) =>
      new Promise((resolve) => {
        // this SDK tells nobody which ids it makes
        const messageId = `own-${randomUUID()}`
        analytics[call.kind]({ ...without(call), messageId }, () => resolve(messageId))
      })
  )
  analytics.flush()
  return { version: versionOf('@rudderstack/rudder-sdk-node'), messageIds: await Promise.all(sent), failures }
}

const task = JSON.parse(readFileSync(0))
const { failures, ...result } = await { segment: bySegment, rudderstack: byRudderStack }[process.argv[2]](task)
console.log(JSON.stringify(result))
for (const failure of failures) console.error(String(failure?.reason ?? failure))
process.exitCode = failures.length ? 1 : 0
