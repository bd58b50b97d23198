// What a page does with analytics.js, as `send(task)`; it resolves when every message has been answered.
window.send = async ({ url, key, calls }) => {
  const { host, protocol } = new URL(url)
  const answered = new Set()
  const failures = []

  // The SDK says when it has taken a message over, not when the gateway has it: look at the answers.
  const fetchOfTheBrowser = window.fetch
  window.fetch = async (resource, options) => {
    const response = await fetchOfTheBrowser(resource, options)
    if (response.ok && options?.body) answered.add(JSON.parse(options.body).messageId)
    return response
  }

  const segment = { apiKey: key, apiHost: `${host}/v1`, protocol: protocol.slice(0, -1) }
  const [analytics] = await AnalyticsNext.AnalyticsBrowser.load({
    writeKey: key,
    // without these settings it would ask Segment for them, and report to Segment how it does
    cdnSettings: { integrations: { 'Segment.io': segment }, metrics: { sampleRate: 0 } },
  })
  analytics.on('error', (error) => failures.push(String(error.reason ?? error)))

  const made = calls.map((call) => {
    // who is known stays known, whatever a call says: a visitor, and one who becomes a user, is known to nobody
    if (call.userId === null || call.kind === 'alias') analytics.reset()
    else analytics.user().id(call.userId)
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
  })
  const messageIds = (await Promise.all(made)).map((context) => context.event.messageId)

  while (!failures.length && messageIds.some((id) => !answered.has(id))) {
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  return { version: analytics.VERSION, messageIds, failures }
}
