import { lexer, type Token, type Tokens } from 'marked'
import { inert, type Screen } from './text.ts'

/** Columns of a rule, and of text on a terminal that does not say how wide it is. */
const RULE_COLUMNS = 40

/**
 * Markdown of an agent for a terminal: headings, lists, emphasis, code, quotes and tables, wrapped by the terminal. Its
 * control characters are made harmless first; a link shows where it leads, so that none hides behind a text.
 */
export function renderMarkdown(screen: Screen, markdown: string): string {
  const blocks = lexer(inert(markdown)).map((token) => block(screen, token))
  return blocks
    .filter((text) => text !== '')
    .join('\n\n')
    .trimEnd()
}

function block(screen: Screen, token: Token): string {
  switch (token.type) {
    case 'space':
    case 'def':
      return ''
    case 'heading':
      return screen.style('bold', `${'#'.repeat((token as Tokens.Heading).depth)} ${inline(screen, token.tokens)}`)
    case 'code':
      return indent(screen.style('cyan', plain((token as Tokens.Code).text)), '    ')
    case 'blockquote':
      return indent(blocksOf(screen, token.tokens), screen.style('gray', '│ '))
    case 'list':
      return list(screen, token as Tokens.List)
    case 'table':
      return table(screen, token as Tokens.Table)
    case 'hr':
      return screen.style('gray', '─'.repeat(Math.min(RULE_COLUMNS, screen.width)))
    default:
      return token.type === 'html' ? plain(token.raw).trimEnd() : inline(screen, tokensOf(token))
  }
}

const blocksOf = (screen: Screen, tokens: Token[] = []): string =>
  tokens
    .map((token) => block(screen, token))
    .filter((text) => text !== '')
    .join('\n')

function list(screen: Screen, { items, ordered, start }: Tokens.List): string {
  return items
    .map((item, i) => {
      const box = item.task ? `[${item.checked ? 'x' : ' '}] ` : ''
      const mark = ordered ? `${(start || 1) + i}. ` : '• '
      const content = blocksOf(
        screen,
        item.tokens.filter(({ type }) => type !== 'checkbox'),
      )
      return mark + box + indent(content, ' '.repeat(mark.length)).trimStart()
    })
    .join('\n')
}

function table(screen: Screen, { header, rows }: Tokens.Table): string {
  const line = (cells: Tokens.TableCell[]): string => cells.map((cell) => inline(screen, cell.tokens)).join(' │ ')
  return [screen.style('bold', line(header)), ...rows.map(line)].join('\n')
}

const tokensOf = (token: Token): Token[] => ('tokens' in token && token.tokens ? token.tokens : [token])

function inline(screen: Screen, tokens: Token[] = []): string {
  return tokens
    .map((token): string => {
      switch (token.type) {
        case 'strong':
          return screen.style('bold', inline(screen, token.tokens))
        case 'em':
          return screen.style('italic', inline(screen, token.tokens))
        case 'codespan':
          return screen.style('cyan', plain((token as Tokens.Codespan).text))
        case 'br':
          return '\n'
        case 'link':
        case 'image':
          return link(screen, token as Tokens.Link)
        default:
          return 'tokens' in token && token.tokens ? inline(screen, token.tokens) : plain(textOf(token))
      }
    })
    .join('')
}

function link(screen: Screen, { href, tokens, text }: Tokens.Link): string {
  const label = tokens ? inline(screen, tokens) : plain(text)
  return label === href ? label : `${label} ${screen.style('gray', `<${plain(href)}>`)}`
}

const textOf = (token: Token): string => ('text' in token && typeof token.text === 'string' ? token.text : token.raw)

/** A reference such as `&#27;` is left as it is written: decoded, it could be a control character again. */
const plain = (text: string): string => inert(text)

const indent = (text: string, by: string): string =>
  text
    .split('\n')
    .map((line) => by + line)
    .join('\n')
