// OpenAI's completions endpoint (the legacy one, for base models) in front of `generate`: its request
// and response shapes, where this engine has a counterpart. What it has none for is refused by name.

import { HeliumError } from './errors.js';
import type { Completion, GenerateOptions, Info, Token } from './types.js';

export interface CompletionRequest {
  prompt: string;
  model?: string;
  max_tokens?: number | null;
  temperature?: number | null;
  top_p?: number | null;
  presence_penalty?: number | null;
  frequency_penalty?: number | null;
  logit_bias?: Record<string, number> | null;
  logprobs?: number | null;
  seed?: number | null;
  stop?: string | string[] | null;
  echo?: boolean | null;
  n?: 1 | null;
  stream?: boolean | null;
  /** Not OpenAI's: stops the generation. */
  signal?: AbortSignal;
}

export interface CompletionResponse {
  id: string;
  object: 'text_completion';
  created: number;
  model: string;
  choices: {
    text: string;
    index: 0;
    logprobs: {
      tokens: string[];
      token_logprobs: number[];
      top_logprobs: Record<string, number>[];
      text_offset: number[];
    } | null;
    /** null in all chunks of a stream but the last. */
    finish_reason: 'stop' | 'length' | null;
  }[];
  /** In the whole response, and in the last chunk of a stream. */
  usage?: { prompt_tokens: number; completion_tokens: number; total_tokens: number };
}

/** What completions need of `Helium`. */
interface Generates {
  generate(prompt: string, options: GenerateOptions): AsyncGenerator<Token, Completion, undefined>;
  readonly info: Info;
}

const KNOWN = new Set([
  'prompt', 'model', 'max_tokens', 'temperature', 'top_p', 'presence_penalty', 'frequency_penalty',
  'logit_bias', 'logprobs', 'seed', 'stop', 'echo', 'n', 'stream', 'signal',
]);

/** OpenAI's own default. */
const MAX_TOKENS = 16;

export class Completions {
  constructor(private readonly helium: Generates) {}

  create(request: CompletionRequest & { stream: true }): Promise<AsyncGenerator<CompletionResponse, void, undefined>>;
  create(request: CompletionRequest & { stream?: false | null }): Promise<CompletionResponse>;
  async create(request: CompletionRequest): Promise<CompletionResponse | AsyncGenerator<CompletionResponse, void, undefined>> {
    for (const [name, value] of Object.entries(request)) {
      if (!KNOWN.has(name) && value != null) throw new HeliumError('invalid-argument', `completions: "${name}" is not supported`);
    }
    if (request.n != null && request.n !== 1) throw new HeliumError('invalid-argument', `n: expected 1, found ${String(request.n)}`);

    const tokens = this.helium.generate(request.prompt, toOptions(request)); // validates
    const chunks = this.chunks(request, tokens);
    if (request.stream) return chunks;
    let whole: CompletionResponse | undefined;
    for await (const chunk of chunks) whole = whole === undefined ? chunk : joined(whole, chunk);
    return whole!; // there is always the last chunk
  }

  private async *chunks(
    request: CompletionRequest,
    tokens: AsyncGenerator<Token, Completion, undefined>,
  ): AsyncGenerator<CompletionResponse, void, undefined> {
    const { model } = this.helium.info;
    const head = {
      id: `cmpl-${Array.from(crypto.getRandomValues(new Uint32Array(4)), (word) => word.toString(36)).join('')}`,
      object: 'text_completion' as const,
      created: Math.floor(Date.now() / 1000),
      model: request.model ?? model,
    };
    const chunk = (text: string, token: Token | undefined, finish: 'stop' | 'length' | null, offset: number): CompletionResponse => ({
      ...head,
      choices: [{ text, index: 0, logprobs: request.logprobs != null && token ? logprobs(token, offset) : null, finish_reason: finish }],
    });

    let offset = 0;
    if (request.echo) {
      yield chunk(request.prompt, undefined, null, 0);
      offset = request.prompt.length;
    }
    try {
      for (;;) {
        const { done, value } = await tokens.next();
        if (done) {
          // OpenAI knows two reasons: the end of the text or a stop text, and a limit reached.
          const finish = value.finishReason === 'eos' || value.finishReason === 'stop' ? 'stop' : 'length';
          const [prompt_tokens, completion_tokens] = [value.promptIds.length, value.ids.length];
          yield { ...chunk('', undefined, finish, offset), usage: { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens } };
          return;
        }
        yield chunk(value.text, value, null, offset);
        offset += value.text.length;
      }
    } finally {
      await tokens.return(undefined as never); // a caller that leaves early stops the engine too
    }
  }
}

function toOptions(request: CompletionRequest): GenerateOptions {
  const options: GenerateOptions = { maxTokens: request.max_tokens ?? MAX_TOKENS, temperature: request.temperature ?? 1 };
  if (request.top_p != null) options.topP = request.top_p;
  if (request.presence_penalty != null) options.presencePenalty = request.presence_penalty;
  if (request.frequency_penalty != null) options.frequencyPenalty = request.frequency_penalty;
  if (request.logit_bias != null) options.logitBias = request.logit_bias;
  if (request.logprobs != null) options.logprobs = request.logprobs;
  if (request.seed != null) options.seed = request.seed;
  if (request.stop != null) options.stop = request.stop;
  if (request.signal !== undefined) options.signal = request.signal;
  return options;
}

function logprobs(token: Token, offset: number): NonNullable<CompletionResponse['choices'][0]['logprobs']> {
  return {
    tokens: [token.text],
    token_logprobs: [token.logprob ?? NaN],
    top_logprobs: [Object.fromEntries((token.top ?? []).map(({ text, logprob }) => [text, logprob]))],
    text_offset: [offset],
  };
}

/** A response and the chunk after it as one response. */
function joined(before: CompletionResponse, after: CompletionResponse): CompletionResponse {
  const [a, b] = [before.choices[0]!, after.choices[0]!];
  const both = a.logprobs && b.logprobs && {
    tokens: [...a.logprobs.tokens, ...b.logprobs.tokens],
    token_logprobs: [...a.logprobs.token_logprobs, ...b.logprobs.token_logprobs],
    top_logprobs: [...a.logprobs.top_logprobs, ...b.logprobs.top_logprobs],
    text_offset: [...a.logprobs.text_offset, ...b.logprobs.text_offset],
  };
  const choice = { ...b, text: a.text + b.text, logprobs: both ?? a.logprobs ?? b.logprobs };
  return { ...after, choices: [choice] };
}
