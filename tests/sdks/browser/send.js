// What a page does with analytics.js, as `send(task)`; it resolves when every message has been answered.
window.send = async ({ url, key, calls, isBatching }) => {
  const { host, protocol } = new URL(url)
  const answered = new Set()
  const failures = []

  // The SDK says when it has taken a message over, not when the gateway has it: look at the answers.
  const fetchOfTheBrowser = window.fetch
  window.fetch = async (resource, options) => {
    const response = await fetchOfTheBrowser(resource, options)
    const body = response.ok && options?.body ? JSON.parse(options.body) : {}
    for (const message of body.batch ?? [body]) answered.add(message.messageId)
    return response
  }

  const segment = { apiKey: key, apiHost: `${host}/v1`, protocol: protocol.slice(0, -1) }
  if (isBatching) segment.deliveryStrategy = { strategy: 'batching', config: { size: 20, timeout: 200 } }
  const [analytics] = await AnalyticsNext.AnalyticsBrowser.load({
    writeKey: key,
    // without these settings it would ask Segment for them, and report to Segment how it does
    cdnSettings: { integrations: { 'Segment.io': segment }, metrics: { sampleRate: 0 } },
  })
  analytics.on('error', (error) => failures.push(String(error.reason ?? error)))

  const make = (call) => {
    const ids = { anonymousId: call.anonymousId }
    switch (call.kind) {
      case 'track':
        return analytics.track(call.event, call.properties, ids)
      case 'identify':
        return analytics.identify(call.userId, call.traits, ids)
      case 'group':
        return analytics.group(call.groupId, call.traits, ids)
      case 'alias':
        return analytics.alias(call.userId, call.previousId)
      default:
        return analytics[call.kind](call.category, call.name, call.properties, ids)
    }
  }

  const made = []
  let known
  for (const call of calls) {
    // a visitor is nobody's until identify, and one who becomes a user by alias too
    const person = call.kind === 'alias' ? null : call.userId
    if (person !== known) {
      // the SDK puts the user id of the moment into what it sends, not that of the call
      await Promise.all(made)
      if (person === null) analytics.reset()
      else if (call.kind !== 'identify') analytics.user().id(person)
      known = person
    }
    made.push(make(call))
  }
  const messageIds = (await Promise.all(made)).map((context) => context.event.messageId)

  while (!failures.length && messageIds.some((id) => !answered.has(id))) {
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  return { version: analytics.VERSION, messageIds, failures }
}
