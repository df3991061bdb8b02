#!/usr/bin/env node
// fake-model.mjs: a scripted model API on loopback, so that real agent programs run whole turns with no account and no network.
// Speaks Anthropic Messages, OpenAI Responses, OpenAI Chat Completions and Gemini generateContent, streamed and not. Node >= 20, no dependencies.
// Run: node fake-model.mjs [port]     (no port or 0: picks one; the first stdout line is {"port":N}; FAKE_DUMP=dir writes each request body there)
//
// The SCRIPT TRAVELS IN THE PROMPT, so any number of concurrent sessions share one server and it keeps no state per session:
//     FAKE: bash echo hi > out.txt ;; write notes.txt some text ;; say all done
// Step i is chosen by counting the tool results that follow the last user text holding "FAKE:".
// Steps:  bash CMD | elevate CMD (codex: asks to leave the sandbox) | write PATH TEXT | read PATH | say TEXT | slow MS TEXT (streams TEXT over MS)
//         think TEXT >> ANSWER (a reasoning block, then text) | hang | drop (cuts the stream midway)
//         err STATUS [N] (answers STATUS to the first N requests of this prompt; to all when N is absent)
// A request without the wanted tool (title generation, topic check, ...) gets a short text.
// An API key holding "bad", or none, gets 401.  GET /_log shows the requests, DELETE /_log empties it.
import http from 'node:http'
import fs from 'node:fs'
import zlib from 'node:zlib'
import { randomUUID } from 'node:crypto'

const log = []
const errCount = new Map()
let seq = 0
const sleep = (ms) => new Promise((r) => setTimeout(r, ms))
const DUMP = process.env.FAKE_DUMP

// ---------- script -------------------------------------------------------------------------------------------------
function pickStep(items) {
  // items: [{kind:'user'|'tool'|'other', text}] in order
  let at = -1
  items.forEach((it, i) => {
    if (it.kind === 'user' && it.text.includes('FAKE:')) at = i
  })
  if (at < 0) return { step: { op: 'say', arg: 'ok (no script)' }, n: 0, script: '' }
  const script = items[at].text
    .slice(items[at].text.lastIndexOf('FAKE:') + 5)
    .split('\n')[0]
    .replace(/<\/?[a-z_-]+>\s*$/i, '')
    .replace(/["'”]+\s*$/, '')
    .trim()
  const steps = script
    .split(';;')
    .map((s) => s.trim())
    .filter(Boolean)
  const n = items.slice(at + 1).filter((i) => i.kind === 'tool').length
  const s = steps[Math.min(n, steps.length - 1)] ?? 'say empty script'
  const m = /^(\w+)\s*([\s\S]*)$/.exec(s)
  return { step: { op: m[1], arg: m[2] }, n, script, last: items.at(-1) }
}
const NAMES = {
  bash: ['Bash', 'bash', 'exec_command', 'shell_command', 'shell', 'run_shell_command', 'local_shell', 'execute'],
  elevate: ['exec_command', 'shell_command', 'shell'],
  write: ['Write', 'write', 'write_file', 'create_file'],
  read: ['Read', 'read', 'read_file'],
}
// tools: [{name, schema, custom?}] -> {name, args} or undefined
function toolCall(step, tools) {
  for (const name of NAMES[step.op] ?? []) {
    const t = tools.find((x) => x.name === name || x.name.endsWith('__' + name) || x.name.endsWith('.' + name))
    if (!t) continue
    const props = t.schema?.properties ?? {}
    const args = {}
    const set = (keys, v) => {
      const k = keys.find((k) => props[k]) ?? keys[0]
      args[k] = props[k]?.type === 'array' ? ['bash', '-lc', v] : v
    }
    if (step.op === 'bash' || step.op === 'elevate') set(['command', 'cmd'], step.arg)
    else {
      const [, p, rest] = /^(\S+)\s*([\s\S]*)$/.exec(step.arg)
      set(['file_path', 'filePath', 'absolute_path', 'path'], p)
      if (step.op === 'write') set(['content', 'text'], rest)
    }
    if (step.op === 'elevate')
      Object.assign(args, {
        sandbox_permissions: 'require_escalated',
        justification: 'scripted request to leave the sandbox',
      })
    for (const r of t.schema?.required ?? [])
      if (!(r in args)) {
        const ty = props[r]?.type
        args[r] =
          props[r]?.enum?.[0] ??
          (ty === 'boolean' ? false : ty === 'number' || ty === 'integer' ? 1 : ty === 'array' ? [] : 'fake')
      }
    return { name: t.name, args, custom: t.custom, namespace: t.namespace }
  }
  // codex "code mode": one freeform JS tool `exec` with tools.<name>(args)
  const code = tools.find((x) => x.custom && x.name === 'exec')
  if (code && step.op === 'bash')
    return {
      name: 'exec',
      custom: true,
      namespace: code.namespace,
      input: `const r = await tools.exec_command({cmd: ${JSON.stringify(step.arg)}}); text(r.output ?? JSON.stringify(r));`,
    }
}
const chunks = (s, n = 4) => {
  const k = Math.max(1, Math.ceil(s.length / n))
  const out = []
  for (let i = 0; i < s.length; i += k) out.push(s.slice(i, i + k))
  return out
}
const usage = (n) => ({ in: 100 + 10 * n, out: 20 + n })

// ---------- one event source for all dialects ----------------------------------------------------------------------
async function* play(step, call) {
  // yields {text} | {think} | {call} | {drop}
  if (call) {
    yield { call }
    return
  }
  if (step.op === 'slow') {
    const [, ms, t] = /^(\d+)\s*([\s\S]*)$/.exec(step.arg)
    const cs = chunks(t || 'slow text', 10)
    for (const c of cs) {
      await sleep(+ms / cs.length)
      yield { text: c }
    }
    return
  }
  if (step.op === 'think') {
    const [a, b] = step.arg.split('>>')
    yield { think: a.trim() }
    for (const c of chunks((b ?? 'done').trim())) yield { text: c }
    return
  }
  if (step.op === 'drop') {
    yield { text: 'partial ' }
    yield { drop: true }
    return
  }
  const t = step.op === 'say' ? step.arg : `(fake: no tool for "${step.op}")`
  for (const c of chunks(t)) yield { text: c }
}

// ---------- dialects -----------------------------------------------------------------------------------------------
const partsText = (c) => (typeof c === 'string' ? c : (c ?? []).map((b) => b.text ?? '').join('\n'))
const D = {
  anthropic: {
    items(b) {
      const out = []
      for (const m of b.messages ?? [])
        for (const c of typeof m.content === 'string' ? [{ type: 'text', text: m.content }] : m.content) {
          if (c.type === 'tool_result') out.push({ kind: 'tool', text: partsText(c.content) })
          else if (c.type === 'text') out.push({ kind: m.role === 'assistant' ? 'other' : 'user', text: c.text }) // claude puts mid-turn messages in role "system"
        }
      return out
    },
    tools: (b) => (b.tools ?? []).map((t) => ({ name: t.name, schema: t.input_schema })),
    error: (status, msg) => ({
      type: 'error',
      error: {
        type:
          {
            401: 'authentication_error',
            429: 'rate_limit_error',
            529: 'overloaded_error',
            400: 'invalid_request_error',
          }[status] ?? 'api_error',
        message: msg,
      },
      request_id: 'req_fake',
    }),
    async stream(send, b, ev, u) {
      send('message_start', {
        type: 'message_start',
        message: {
          id: 'msg_' + randomUUID().slice(0, 8),
          type: 'message',
          role: 'assistant',
          model: b.model,
          content: [],
          stop_reason: null,
          stop_sequence: null,
          usage: { input_tokens: u.in, output_tokens: 1, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 },
        },
      })
      let i = -1,
        open = null,
        stop = 'end_turn'
      const close = () => {
        if (open) send('content_block_stop', { type: 'content_block_stop', index: i })
        open = null
      }
      for await (const e of ev) {
        if (e.drop) return 'drop'
        const kind = e.call ? 'tool_use' : e.think ? 'thinking' : 'text'
        if (open !== kind) {
          close()
          i++
          open = kind
          send('content_block_start', {
            type: 'content_block_start',
            index: i,
            content_block:
              kind === 'text'
                ? { type: 'text', text: '' }
                : kind === 'thinking'
                  ? { type: 'thinking', thinking: '', signature: '' }
                  : {
                      type: 'tool_use',
                      id: 'toolu_' + randomUUID().replaceAll('-', '').slice(0, 20),
                      name: e.call.name,
                      input: {},
                    },
          })
        }
        if (e.text)
          send('content_block_delta', {
            type: 'content_block_delta',
            index: i,
            delta: { type: 'text_delta', text: e.text },
          })
        if (e.think) {
          send('content_block_delta', {
            type: 'content_block_delta',
            index: i,
            delta: { type: 'thinking_delta', thinking: e.think },
          })
          send('content_block_delta', {
            type: 'content_block_delta',
            index: i,
            delta: { type: 'signature_delta', signature: 'ZmFrZQ==' },
          })
        }
        if (e.call) {
          stop = 'tool_use'
          for (const c of chunks(JSON.stringify(e.call.args), 2))
            send('content_block_delta', {
              type: 'content_block_delta',
              index: i,
              delta: { type: 'input_json_delta', partial_json: c },
            })
        }
      }
      close()
      send('message_delta', {
        type: 'message_delta',
        delta: { stop_reason: stop, stop_sequence: null },
        usage: { output_tokens: u.out },
      })
      send('message_stop', { type: 'message_stop' })
    },
    async whole(b, ev, u) {
      const content = []
      let text = ''
      for await (const e of ev) {
        if (e.text) text += e.text
        if (e.call)
          content.push({
            type: 'tool_use',
            id: 'toolu_' + randomUUID().slice(0, 8),
            name: e.call.name,
            input: e.call.args,
          })
      }
      if (text) content.unshift({ type: 'text', text })
      return {
        id: 'msg_fake',
        type: 'message',
        role: 'assistant',
        model: b.model,
        content,
        stop_reason: content.some((c) => c.type === 'tool_use') ? 'tool_use' : 'end_turn',
        stop_sequence: null,
        usage: { input_tokens: u.in, output_tokens: u.out },
      }
    },
  },
  chat: {
    items: (b) =>
      (b.messages ?? []).map((m) => ({
        kind: m.role === 'tool' ? 'tool' : m.role === 'user' ? 'user' : 'other',
        text: partsText(m.content),
      })),
    tools: (b) => (b.tools ?? []).map((t) => ({ name: t.function?.name, schema: t.function?.parameters })),
    error: (status, msg) => ({
      error: {
        message: msg,
        type:
          status === 401 || status === 400
            ? 'invalid_request_error'
            : status === 429
              ? 'rate_limit_exceeded'
              : 'server_error',
        param: null,
        code: status === 401 ? 'invalid_api_key' : status === 429 ? 'rate_limit_exceeded' : null,
      },
    }),
    async stream(send, b, ev, u) {
      const id = 'chatcmpl-' + randomUUID().slice(0, 8)
      let fin = 'stop'
      const ch = (delta, finish_reason = null) =>
        send(null, {
          id,
          object: 'chat.completion.chunk',
          created: (Date.now() / 1000) | 0,
          model: b.model,
          choices: [{ index: 0, delta, finish_reason }],
        })
      ch({ role: 'assistant', content: '' })
      for await (const e of ev) {
        if (e.drop) return 'drop'
        if (e.text) ch({ content: e.text })
        if (e.think) ch({ reasoning_content: e.think })
        if (e.call) {
          fin = 'tool_calls'
          ch({
            tool_calls: [
              {
                index: 0,
                id: 'call_' + randomUUID().slice(0, 8),
                type: 'function',
                function: { name: e.call.name, arguments: '' },
              },
            ],
          })
          for (const c of chunks(JSON.stringify(e.call.args), 2))
            ch({ tool_calls: [{ index: 0, function: { arguments: c } }] })
        }
      }
      ch({}, fin)
      send(null, {
        id,
        object: 'chat.completion.chunk',
        created: (Date.now() / 1000) | 0,
        model: b.model,
        choices: [],
        usage: { prompt_tokens: u.in, completion_tokens: u.out, total_tokens: u.in + u.out },
      })
      send(null, '[DONE]')
    },
    async whole(b, ev, u) {
      let content = '',
        tool_calls
      for await (const e of ev) {
        if (e.text) content += e.text
        if (e.call)
          tool_calls = [
            {
              id: 'call_' + randomUUID().slice(0, 8),
              type: 'function',
              function: { name: e.call.name, arguments: JSON.stringify(e.call.args) },
            },
          ]
      }
      return {
        id: 'chatcmpl-fake',
        object: 'chat.completion',
        created: (Date.now() / 1000) | 0,
        model: b.model,
        choices: [
          {
            index: 0,
            message: { role: 'assistant', content, tool_calls },
            finish_reason: tool_calls ? 'tool_calls' : 'stop',
          },
        ],
        usage: { prompt_tokens: u.in, completion_tokens: u.out, total_tokens: u.in + u.out },
      }
    },
  },
  responses: {
    items: (b) =>
      (typeof b.input === 'string' ? [{ type: 'message', role: 'user', content: b.input }] : (b.input ?? [])).map((m) =>
        (m.type ?? '').endsWith('_output')
          ? { kind: 'tool', text: partsText(m.output) }
          : { kind: m.role === 'user' ? 'user' : 'other', text: partsText(m.content) },
      ),
    tools: (b) =>
      [
        ...(b.tools ?? []),
        ...(Array.isArray(b.input) ? b.input : []).filter((i) => i.type === 'additional_tools').flatMap((i) => i.tools),
      ].flatMap((t) =>
        t.type === 'namespace'
          ? t.tools.map((x) => ({ name: x.name, schema: x.parameters, custom: x.type === 'custom', namespace: t.name }))
          : [{ name: t.name ?? t.type, schema: t.parameters, custom: t.type === 'custom' }],
      ),
    error: (status, msg) => D.chat.error(status, msg),
    async stream(send, b, ev, u) {
      const id = 'resp_' + randomUUID().slice(0, 8)
      let sn = 0
      const output = []
      let msg
      const s = (type, o) => send(type, { type, sequence_number: sn++, ...o })
      const base = (status, extra = {}) => ({
        id,
        object: 'response',
        created_at: (Date.now() / 1000) | 0,
        status,
        model: b.model,
        output: [],
        error: null,
        incomplete_details: null,
        parallel_tool_calls: false,
        ...extra,
      })
      s('response.created', { response: base('in_progress') })
      s('response.in_progress', { response: base('in_progress') })
      for await (const e of ev) {
        if (e.drop) return 'drop'
        if (e.think) {
          const it = { id: 'rs_' + randomUUID().slice(0, 8), type: 'reasoning', summary: [], encrypted_content: null }
          s('response.output_item.added', { output_index: output.length, item: it })
          s('response.reasoning_summary_part.added', {
            item_id: it.id,
            output_index: output.length,
            summary_index: 0,
            part: { type: 'summary_text', text: '' },
          })
          s('response.reasoning_summary_text.delta', {
            item_id: it.id,
            output_index: output.length,
            summary_index: 0,
            delta: e.think,
          })
          s('response.reasoning_summary_text.done', {
            item_id: it.id,
            output_index: output.length,
            summary_index: 0,
            text: e.think,
          })
          it.summary = [{ type: 'summary_text', text: e.think }]
          s('response.output_item.done', { output_index: output.length, item: it })
          output.push(it)
        }
        if (e.text) {
          if (!msg) {
            msg = {
              id: 'msg_' + randomUUID().slice(0, 8),
              type: 'message',
              role: 'assistant',
              status: 'in_progress',
              content: [],
              t: '',
              oi: output.length,
            }
            const { t: _, oi, ...m } = msg
            s('response.output_item.added', { output_index: oi, item: m })
            s('response.content_part.added', {
              item_id: msg.id,
              output_index: oi,
              content_index: 0,
              part: { type: 'output_text', text: '', annotations: [] },
            })
          }
          msg.t += e.text
          s('response.output_text.delta', { item_id: msg.id, output_index: msg.oi, content_index: 0, delta: e.text })
        }
        if (e.call) {
          const c = e.call
          const call_id = 'call_' + randomUUID().slice(0, 8)
          const oi = output.length
          const it = c.custom
            ? {
                id: 'ctc_' + randomUUID().slice(0, 8),
                type: 'custom_tool_call',
                call_id,
                name: c.name,
                ...(c.namespace ? { namespace: c.namespace } : {}),
                input: c.input ?? '',
                status: 'completed',
              }
            : {
                id: 'fc_' + randomUUID().slice(0, 8),
                type: 'function_call',
                call_id,
                name: c.name,
                ...(c.namespace ? { namespace: c.namespace } : {}),
                arguments: JSON.stringify(c.args),
                status: 'completed',
              }
          s('response.output_item.added', {
            output_index: oi,
            item: { ...it, status: 'in_progress', ...(c.custom ? { input: '' } : { arguments: '' }) },
          })
          if (c.custom) {
            s('response.custom_tool_call_input.delta', { item_id: it.id, output_index: oi, delta: it.input })
            s('response.custom_tool_call_input.done', { item_id: it.id, output_index: oi, input: it.input })
          } else {
            s('response.function_call_arguments.delta', { item_id: it.id, output_index: oi, delta: it.arguments })
            s('response.function_call_arguments.done', { item_id: it.id, output_index: oi, arguments: it.arguments })
          }
          s('response.output_item.done', { output_index: oi, item: it })
          output.push(it)
        }
      }
      if (msg) {
        const { t, oi, ...m } = msg
        const it = { ...m, status: 'completed', content: [{ type: 'output_text', text: t, annotations: [] }] }
        s('response.output_text.done', { item_id: m.id, output_index: oi, content_index: 0, text: t })
        s('response.content_part.done', { item_id: m.id, output_index: oi, content_index: 0, part: it.content[0] })
        s('response.output_item.done', { output_index: oi, item: it })
        output.push(it)
      }
      s('response.completed', {
        response: base('completed', {
          output,
          usage: {
            input_tokens: u.in,
            input_tokens_details: { cached_tokens: 0 },
            output_tokens: u.out,
            output_tokens_details: { reasoning_tokens: 0 },
            total_tokens: u.in + u.out,
          },
        }),
      })
    },
    async whole(b, ev, u) {
      let done
      await this.stream(
        (t, d) => {
          if (t === 'response.completed') done = d.response
        },
        b,
        ev,
        u,
      )
      return done
    },
  },
  gemini: {
    items: (b) =>
      (b.contents ?? []).flatMap((m) =>
        (m.parts ?? []).map((p) =>
          p.functionResponse
            ? { kind: 'tool', text: JSON.stringify(p.functionResponse.response ?? '') }
            : { kind: m.role === 'user' || !m.role ? 'user' : 'other', text: p.text ?? '' },
        ),
      ),
    tools: (b) =>
      (b.tools ?? [])
        .flatMap((t) => t.functionDeclarations ?? [])
        .map((t) => ({ name: t.name, schema: t.parametersJsonSchema ?? t.parameters })),
    error: (status, msg) => ({
      error: {
        code: status,
        message: msg,
        status: { 401: 'UNAUTHENTICATED', 429: 'RESOURCE_EXHAUSTED', 400: 'INVALID_ARGUMENT' }[status] ?? 'INTERNAL',
      },
    }),
    chunk: (parts, u, finishReason) => ({
      candidates: [{ index: 0, content: { role: 'model', parts }, ...(finishReason ? { finishReason } : {}) }],
      usageMetadata: { promptTokenCount: u.in, candidatesTokenCount: u.out, totalTokenCount: u.in + u.out },
      modelVersion: 'fake',
      responseId: 'fake',
    }),
    part: (e) =>
      e.call
        ? { functionCall: { name: e.call.name, args: e.call.args } }
        : e.think
          ? { text: e.think, thought: true }
          : { text: e.text },
    async stream(send, b, ev, u) {
      for await (const e of ev) {
        if (e.drop) return 'drop'
        send(null, this.chunk([this.part(e)], u))
      }
      send(null, this.chunk([{ text: '' }], u, 'STOP'))
    },
    async whole(b, ev, u) {
      const parts = []
      for await (const e of ev) if (!e.drop) parts.push(this.part(e))
      if (b.generationConfig?.responseMimeType === 'application/json' || b.generationConfig?.responseJsonSchema)
        return this.chunk(
          [
            {
              text: JSON.stringify({
                reasoning: 'fake',
                next_speaker: 'user',
                model_choice: 'pro',
                complexity_score: 50,
                complexity_reasoning: 'fake',
              }),
            },
          ],
          u,
          'STOP',
        )
      return this.chunk(parts, u, 'STOP')
    },
  },
}

// ---------- server -------------------------------------------------------------------------------------------------
function route(method, p) {
  if (method !== 'POST') return
  if (p.endsWith('/messages')) return { d: 'anthropic' }
  if (p.endsWith('/chat/completions')) return { d: 'chat' }
  if (p.endsWith('/responses')) return { d: 'responses' }
  const g = /\/models\/([^:]+):(stream)?[gG]enerateContent$/.exec(p)
  if (g) return { d: 'gemini', model: g[1], stream: !!g[2] }
}
async function answer(req, res) {
  const url = new URL(req.url, 'http://x')
  const p = url.pathname
  const n = ++seq
  const json = (status, o, h = {}) => {
    res.writeHead(status, { 'content-type': 'application/json', ...h })
    res.end(JSON.stringify(o))
  }
  if (p === '/_log') {
    if (req.method === 'DELETE') {
      log.length = 0
      errCount.clear()
    }
    return json(200, log)
  }
  const bufs = []
  for await (const c of req) bufs.push(c)
  let raw = Buffer.concat(bufs)
  const enc = req.headers['content-encoding']
  try {
    if (enc === 'gzip') raw = zlib.gunzipSync(raw)
    else if (enc === 'zstd') raw = zlib.zstdDecompressSync(raw)
    else if (enc === 'br') raw = zlib.brotliDecompressSync(raw)
  } catch {
    /* leave */
  }
  let body = {}
  try {
    body = JSON.parse(raw.toString() || '{}')
  } catch {
    /* leave */
  }
  const key = String(
    req.headers['x-api-key'] ??
      req.headers['x-goog-api-key'] ??
      req.headers.authorization ??
      url.searchParams.get('key') ??
      '',
  )
  const entry = { n, t: Date.now(), method: req.method, path: p, key: key.slice(0, 24), ua: req.headers['user-agent'] }
  log.push(entry)
  res.on('close', () => {
    entry.ms = Date.now() - entry.t
    entry.aborted = !res.writableEnded
  })
  const r = route(req.method, p)
  if (DUMP && req.method === 'POST')
    fs.writeFileSync(
      `${DUMP}/${String(n).padStart(4, '0')}${p.replace(/[^\w.-]+/g, '_')}.json`,
      JSON.stringify({ headers: req.headers, body }, null, 1),
    )
  if (!r) {
    if (p.endsWith('count_tokens')) return json(200, { input_tokens: 100 })
    if (p.endsWith(':countTokens')) return json(200, { totalTokens: 100 })
    if (req.method === 'GET' && p.endsWith('/models'))
      return json(200, {
        object: 'list',
        data: [
          { id: 'fake-model', object: 'model', type: 'model', created: 0, owned_by: 'fake', display_name: 'fake' },
        ],
        has_more: false,
        models: [],
      })
    if (req.method === 'HEAD' || p === '/') {
      res.writeHead(200)
      return res.end()
    }
    entry.status = 404
    return json(404, { error: { message: `fake-model: no route ${req.method} ${p}`, type: 'not_found_error' } })
  }
  const d = D[r.d]
  if (r.model) body.model = r.model
  if (/bad/i.test(key) || !key) {
    entry.status = 401
    return json(401, d.error(401, 'invalid API key (fake)'))
  }
  const tools = d.tools(body)
  const { step, n: stepNo, script } = pickStep(d.items(body))
  let call = step.op in NAMES ? toolCall(step, tools) : undefined
  Object.assign(entry, {
    model: body.model,
    stream: r.stream ?? !!body.stream,
    tools: tools.length,
    stepNo,
    step: `${step.op} ${step.arg}`.slice(0, 120),
    tool: call?.name,
  })
  let st = step
  if (!tools.length && step.op !== 'err') {
    st = { op: 'say', arg: 'Fake title' }
    entry.side = true
  }
  if (step.op === 'err') {
    const [code, times] = step.arg.split(/\s+/)
    const c = (errCount.get(script) ?? 0) + 1
    errCount.set(script, c)
    if (!times || c <= +times) {
      entry.status = +code
      return json(+code, d.error(+code, `scripted error ${code} (fake)`), code === '429' ? { 'retry-after': '1' } : {})
    }
    st = { op: 'say', arg: `recovered after ${times} x ${code}` }
  }
  if (step.op === 'hang' && tools.length) {
    entry.hang = true
    return
  }
  const u = usage(stepNo)
  const ev = play(st, call)
  if (!(r.stream ?? body.stream)) return json(200, await d.whole(body, ev, u))
  res.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache', 'request-id': 'req_fake' })
  const send = (event, data) =>
    res.write(
      (event ? `event: ${event}\n` : '') + `data: ${typeof data === 'string' ? data : JSON.stringify(data)}\n\n`,
    )
  const how = await d.stream(send, body, ev, u)
  if (how === 'drop') return res.destroy()
  res.end()
}
const server = http.createServer((req, res) => void answer(req, res))
server.listen(Number(process.argv[2] ?? process.env.PORT ?? 0), '127.0.0.1', () =>
  console.log(JSON.stringify({ port: server.address().port })),
)
for (const s of ['SIGTERM', 'SIGINT']) process.on(s, () => process.exit(0))
