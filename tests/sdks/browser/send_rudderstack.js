// What a page does with RudderStack's SDK, as `send(task)`; it resolves when every message has been answered.
window.send = async ({ url, key, calls }) => {
  const idOfCall = new Map()
  const answered = new Set()
  const failures = []

  // This SDK tells nobody which ids it makes, nor what has arrived: look at its requests.
  const sendOfTheBrowser = XMLHttpRequest.prototype.send
  XMLHttpRequest.prototype.send = function (body) {
    const sent = typeof body === 'string' && body.startsWith('{') ? JSON.parse(body) : {}
    const messages = (sent.batch ?? [sent]).filter((message) => message.messageId)
    for (const message of messages) idOfCall.set(message.context.call, message.messageId)
    this.addEventListener('load', () => {
      if (this.status >= 200 && this.status < 300) for (const message of messages) answered.add(message.messageId)
      else if (this.status < 500 && this.status !== 429) failures.push(`${this.status}: ${this.responseText}`)
    })
    return sendOfTheBrowser.call(this, body)
  }

  const analytics = new rudderanalytics.RudderAnalytics()
  await new Promise((resolve) => {
    analytics.ready(resolve)
    analytics.load(key, url, { configUrl: url, sendAdblockPage: false, logLevel: 'ERROR', onLoaded: resolve })
  })

  const make = (call) => {
    const options = { anonymousId: call.anonymousId, call: call.number }
    switch (call.kind) {
      case 'track':
        return analytics.track(call.event, call.properties, options)
      case 'page':
        return analytics.page(call.category, call.name, call.properties, options)
      case 'identify':
        return analytics.identify(call.userId, call.traits, options)
      case 'group':
        return analytics.group(call.groupId, call.traits, options)
      default:
        return analytics.alias(call.userId, call.previousId, options)
    }
  }

  let known = null
  let made = 0
  for (const call of calls) {
    // a visitor is nobody's until identify
    const person = call.kind === 'alias' ? null : call.userId
    if (person !== known && person === null) analytics.reset()
    known = person
    make(call)
    // the SDK keeps 100 messages and forgets older ones, as no page sends so many at once
    made += 1
    while (!failures.length && made - answered.size > 50) {
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
  }
  const isDone = () => calls.every((call) => answered.has(idOfCall.get(call.number)))
  while (!failures.length && !isDone()) await new Promise((resolve) => setTimeout(resolve, 50))
  return { messageIds: calls.map((call) => idOfCall.get(call.number)), failures }
}
